"""Define `transfuse eval`, which measures models, and `transfuse path`, which measures the line between two."""

from typing import Annotated

from typer import Argument, Option

from transfuse.base.libraries import quiet_libraries
from transfuse.cli.flags import READING, FlagValues, Limit, Models, Plot, takes_options
from transfuse.cli.help_texts import PATH
from transfuse.cli.output import OutputMode
from transfuse.config.job import Job

RUN = (*READING, "batch_size", "seed", "device", "max_memory", "max_device_memory", "allow_pickle", "spec")
PATH_OPTIONS = (
    "align",
    "match_on",
    "samples",
    "groups",
    "head",
    "positions",
    "settings",
    "teacher_weighting",
    "objective",
    "steps",
    "learning_rate",
    "augment",
    *RUN,
    "flow",
)
EVAL_EXAMPLES = """
transfuse eval OUT A B --data test.parquet  # OUT compared with A and with B, with intervals and tests
"""
PATH_EXAMPLES = """
transfuse path A B --data D --plot line.png  # loss and accuracy between A and B, after alignment
"""


@takes_options((Job, RUN), everyday=["batch_size", "seed", "device", "max_memory"])
def evaluate(
    mode: OutputMode,
    flags: FlagValues,
    models: Models,
    data: Annotated[
        str | None,
        Option(
            "--data",
            metavar="DATA",
            help="Samples, with labels if there are any; the test split if there are several. Without labels, the first"
            " model is compared with the others. Required.",
        ),
    ] = None,
    limit: Limit = None,
    classes: Annotated[bool, Option("--classes", help="Show precision, recall and F1 of every class too.")] = False,
) -> None:
    """Measure models by the metrics of their task, and compare them."""
    from transfuse.cli.validation import required_data, split_limits
    from transfuse.report.evaluation_tables import evaluation_tables

    eval_options, limits = split_limits(flags)
    samples = required_data(data)
    with quiet_libraries():
        from transfuse.cli.jobs.evaluate import eval_job

        with limits.memory_limit(eval_options):
            evaluation = eval_job(models, samples, limit, eval_options, mode.progress)
    if classes and not any(model.classes for model in evaluation.models.values()):
        mode.progress.warn("--classes: shows nothing, because no classes were measured on labels; leave it out")
    mode.show(evaluation.records(), lambda: evaluation_tables(evaluation, classes))


@takes_options((Job, PATH_OPTIONS), everyday=["align", "match_on", "samples", "device", "max_memory"], helps=PATH)
def path(
    mode: OutputMode,
    flags: FlagValues,
    anchor: Annotated[str, Argument(metavar="ANCHOR", help="The model at 0, whose basis is kept.")],
    other: Annotated[str, Argument(metavar="OTHER", help="The model at 1, aligned to it.")],
    data: Annotated[
        str,
        Option(
            "--data",
            metavar="DATA",
            help="Samples, with labels if there are any. The test split is measured, the training split is used for"
            " alignment, if both exist.",
        ),
    ],
    plot: Plot = None,
    points: Annotated[int, Option(min=3, metavar="COUNT", help="Points of the path, both ends included.")] = 11,
    limit: Limit = None,
) -> None:
    """Measure the line between two aligned models."""
    from transfuse.cli.targets import check_plot
    from transfuse.cli.validation import split_limits
    from transfuse.report.evaluation_tables import path_table

    path_options, limits = split_limits({"merge": "mean"} | dict(flags))
    if plot:
        check_plot(plot)
    with quiet_libraries():
        from transfuse.cli.jobs.evaluate import path_job, save_plot

        with limits.memory_limit(path_options):
            line, samples = path_job(anchor, other, data, limit, points, path_options, mode.progress)
        if plot:
            save_plot({path_options.align: line}, plot)
    document = line.as_dict() | {"data": samples.source, "split": samples.split}
    mode.show(document, lambda: path_table(line, samples.name))
