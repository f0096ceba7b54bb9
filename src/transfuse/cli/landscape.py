"""Define `transfuse landscape`, which measures the plane through three models."""

from typing import Annotated

from typer import Argument, Option

from transfuse.base.libraries import quiet_libraries
from transfuse.cli.flags import READING, FlagValues, Limit, Plot, takes_options
from transfuse.cli.help_texts import LANDSCAPE
from transfuse.cli.output import OutputMode
from transfuse.config.job import Job

EXAMPLES = """
transfuse landscape A B OUT --data D --plot plane.svg  # the parents and their fusion in one plane
"""


OPTIONS = (
    "align",
    "match_on",
    "samples",
    "head",
    "positions",
    "settings",
    *READING,
    "batch_size",
    "seed",
    "device",
    "allow_pickle",
    "spec",
)


@takes_options(
    (Job, OPTIONS),
    helps=LANDSCAPE,
    metavars={"align": "exact|none", "match_on": "activations|weights|both"},
)
def landscape(
    mode: OutputMode,
    flags: FlagValues,
    first: Annotated[str, Argument(metavar="A", help="The model at the origin, whose basis is kept.")],
    second: Annotated[str, Argument(metavar="B", help="The model on the first axis.")],
    third: Annotated[str, Argument(metavar="C", help="The third model, for example the fusion of A and B.")],
    data: Annotated[
        str,
        Option(
            "--data",
            metavar="DATA",
            help="Labeled samples (texts, for a language model); measured on the test split if there are several.",
        ),
    ],
    plot: Plot = None,
    metric: Annotated[str, Option(metavar="loss|accuracy", help="What the plot shows.")] = "loss",
    points: Annotated[int, Option("--points", min=3, metavar="COUNT", help="Grid points per side.")] = 13,
    margin: Annotated[
        float, Option(min=0.0, metavar="FRACTION", help="How far the grid reaches beyond the models.")
    ] = 0.3,
    limit: Limit = None,
) -> None:
    """Measure loss or accuracy on the plane through three models."""
    from transfuse.cli.targets import check_plot
    from transfuse.cli.validation import landscape_options
    from transfuse.report.evaluation_tables import landscape_table

    chosen = landscape_options(flags, metric)
    if plot:
        check_plot(plot)
    with quiet_libraries():
        from transfuse.cli.jobs.evaluate import landscape_job, save_landscape

        measured, samples = landscape_job((first, second, third), data, limit, points, margin, chosen, mode.progress)
        if plot:
            save_landscape(measured, metric, plot)
    document = measured.as_dict() | {"data": samples.source, "split": samples.split}
    mode.show(document, lambda: landscape_table(measured, samples.name))
