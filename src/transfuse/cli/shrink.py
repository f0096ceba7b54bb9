"""Define `transfuse shrink`."""

from typing import Annotated

from typer import Argument, Option

from transfuse.base.libraries import quiet_libraries
from transfuse.checkpoint.writing.owned import REPORT_PAGE
from transfuse.cli.flags import READING, FlagValues, Resume, takes_options
from transfuse.cli.help_texts import SHRINK
from transfuse.cli.output import OutputMode
from transfuse.config.job import Job
from transfuse.config.shrink_options import SIZE_NAMES, ShrinkOptions

EVERYDAY = (*SIZE_NAMES, "ratio", "like", "effort", "samples", "device")
OTHERS = ("minutes", "steps", "learning_rate", "dtype", *READING, "batch_size", "seed", "allow_pickle", "spec")
EXAMPLES = """
transfuse shrink MODEL -o OUT --data D --ratio 0.5           # half the parameters
transfuse shrink MODEL -o OUT --data D --layers 6            # fewer blocks
transfuse shrink MODEL -o OUT --data D --experts 0.5         # half the experts of each block
transfuse shrink MODEL -o OUT --data D --hidden-size 256 --intermediate-size 1024
transfuse shrink MODEL -o OUT --data D --like SMALL_MODEL    # the sizes of another model
transfuse shrink MODEL -o OUT --data D --ratio 0.5 --report  # with a report on the quality
transfuse shrink MODEL --ratio 0.5 --dry-run                 # the sizes, and nothing is written
"""


@takes_options(
    (Job, ["output"]),
    (ShrinkOptions, [*EVERYDAY, *OTHERS]),
    (Job, ["max_memory", "max_device_memory", "report", "overwrite"]),
    everyday=["output", *EVERYDAY, "max_memory", "report", "overwrite"],
    helps=SHRINK,
)
def shrink(
    mode: OutputMode,
    flags: FlagValues,
    model: Annotated[str, Argument(metavar="MODEL", help="The model to make smaller: a folder or a Hub name.")],
    data: Annotated[
        str | None,
        Option(
            "--data",
            metavar="DATA",
            help="Unlabeled samples of what MODEL is for: images, texts, a table, a Hub name. `generated`: texts by"
            " MODEL itself, if it is a causal language model. Required, except with --dry-run.",
        ),
    ] = None,
    dry_run: Annotated[bool, Option("--dry-run", help="Show the sizes and the number of parameters only.")] = False,
    resume: Resume = False,
) -> None:
    """Make a model smaller."""
    from transfuse.cli.shrink_request import shrink_request
    from transfuse.cli.targets import said_how_to_continue, work_beside
    from transfuse.cli.validation import limits
    from transfuse.report.summary import report_line
    from transfuse.report.tables import plan_of_sizes, shrinking_summary

    request = shrink_request(model, dict(flags) | {"resume": resume}, data, dry_run)
    memory = limits(flags)
    if dry_run:
        with quiet_libraries():
            from transfuse.cli.jobs.shrink import plan_job

            planned = plan_job(request, memory.max_memory, mode.progress)
        mode.show(planned, lambda: plan_of_sizes(model, planned, memory.max_memory))
        return
    work = work_beside(request.output, resume, "shrink", "choose another output")
    with quiet_libraries():
        from transfuse.cli.jobs.shrink import shrink_job

        limit = memory.memory_limit(request.options)
        with said_how_to_continue(work.folder), limit:
            done = shrink_job(request, work, mode.progress)
    page = [report_line(done.output / REPORT_PAGE)] if done.report else []
    mode.show(done.as_dict(), lambda: [shrinking_summary(done.output, done.record), *page])
