"""Define `transfuse landscape`, which measures the plane through three models."""

from typing import TYPE_CHECKING, Annotated

from rich.console import Group
from rich.table import Table
from rich.text import Text
from typer import Argument, Option

from transfuse.base.printable import printable
from transfuse.base.progress import quiet_libraries
from transfuse.base.shown_number import shown_number
from transfuse.cli.flags import READING, FlagValues, Limit, Plot, takes_options
from transfuse.cli.help_texts import LANDSCAPE
from transfuse.cli.output import OutputMode
from transfuse.config.job import Job
from transfuse.errors import DataError

if TYPE_CHECKING:
    from transfuse.evaluation.landscape import Landscape


EXAMPLES = """
transfuse landscape A B OUT --data D --plot plane.svg  # the parents and their fusion in one plane
"""


OPTIONS = (
    "align",
    "match_on",
    "samples",
    "head",
    "positions",
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

    align_options = landscape_options(flags, metric)
    if plot:
        check_plot(plot)
    models = (first, second, third)
    with quiet_libraries():
        from transfuse.cli.jobs.inspection import load_for_measurement
        from transfuse.evaluation.landscape import measure_landscape

        loaded = load_for_measurement(models, data, limit, align_options, mode.progress)
        samples = loaded.samples
        if samples.task.kind not in ("classes", "tokens") or not samples.labeled:
            raise DataError(f"{data}: landscape needs a classifier and labels, or a language model and texts")
        measured = measure_landscape(
            models,
            loaded.networks,
            loaded.batches,
            points,
            margin,
            align_options,
            loaded.context,
            mode.progress,
            loaded.borrowed,
        )
        if plot:
            from transfuse.checkpoint.output import atomic_file
            from transfuse.report.contours import save_landscape_plot

            with atomic_file(plot) as partial:
                save_landscape_plot(measured, metric, partial)
    rows = samples.samples
    mode.show(measured.as_dict() | {"data": rows.source, "split": rows.split}, lambda: _table(measured, rows.name))


def _table(measured: "Landscape", source: str) -> Group:
    """Return a table with one row per model, and below it the grid point with the lowest loss and the samples."""
    from transfuse.report.tables import model_column, number_column

    (x, y), lowest = measured.lowest()
    shares = ", ".join(f"{share:.2f}" for share in measured.plane.shares(x, y))
    size = f"{len(measured.x)} x {len(measured.y)}"
    place = f"at ({x:.1f}, {y:.1f}), with weights {shares} of A, B and C"
    columns = (number_column(name) for name in ("x", "y", "accuracy", "loss"))
    table = Table(model_column(), "alignment to A", *columns)
    for model in measured.models:
        position = [f"{value:.1f}" for value in model.position]
        metrics = [shown_number(model.metrics.accuracy, ".2%"), shown_number(model.metrics.loss, ".4f")]
        table.add_row(Text(printable(model.path)), model.alignment, *position, *metrics)
    best = f"lowest loss of {size} points: {shown_number(lowest.loss, '.4f')} {place}"
    return Group(table, f"{best}\nmeasured on {printable(source)}")
