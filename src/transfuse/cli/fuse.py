"""Define `transfuse fuse`, and `transfuse plan`, which predicts what a fusion requires."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from rich.console import RenderableType
from typer import Argument, Option

from transfuse.base.libraries import quiet_libraries
from transfuse.checkpoint.writing.owned import REPORT_PAGE
from transfuse.cli.flags import READING, FlagValues, Resume, takes_options
from transfuse.cli.help_texts import FUSE, PLAN
from transfuse.cli.output import OutputMode
from transfuse.config.job import Job

EVERYDAY = (
    "output",
    "data",
    "align",
    "merge",
    "base",
    "effort",
    "teacher_weighting",
    "weights",
    "grow",
    "samples",
    "device",
    "max_memory",
    "report",
    "overwrite",
)
OTHERS = (
    "match_on",
    "groups",
    "basis",
    "vocab",
    "head",
    "positions",
    "settings",
    "density",
    "task_scale",
    "task_weights",
    "objective",
    "minutes",
    "steps",
    "learning_rate",
    "augment",
    "dtype",
    "adapter_out",
    "maps",
    "cache",
    *READING,
    "batch_size",
    "seed",
    "max_device_memory",
    "allow_pickle",
    "push_to_hub",
    "private",
    "spec",
    "flow",
)
FUSE_EXAMPLES = """
transfuse fuse A B -o OUT --data texts.jsonl        # two models, trained on texts to match both, for 5 minutes at most
transfuse fuse A B -o OUT --data D --effort quick   # the best starting point, without training
transfuse fuse A B -o OUT                           # by their weights only
transfuse fuse A B -o OUT --data D --report         # with a report on the quality of the result
transfuse fuse A B -o OUT --base BASE --merge ties  # two fine-tunes of one base, by their task vectors
transfuse fuse A B -o OUT --data D --grow 1.5       # one model with up to 1.5 times the parameters of A
transfuse fuse A B -o OUT --push-to-hub user/name   # written to OUT and to the Hub
"""
PLAN_EXAMPLES = """
transfuse plan A B                   # what would be matched, and the memory and disk space needed
transfuse plan A B --max-memory 8GB  # whether 8 GB suffice
transfuse plan A B --data D          # the memory for fusing with samples
"""
PLANNED = ("data", "align", "merge", "base", "effort", "grow", "samples", "device", "max_memory")
ALSO_PLANNED = (
    "match_on",
    "groups",
    "vocab",
    "head",
    "positions",
    "settings",
    "minutes",
    "steps",
    "objective",
    "augment",
    "dtype",
    "adapter_out",
    *READING,
    "batch_size",
    "seed",
    "allow_pickle",
    "spec",
    "flow",
)
Config = Annotated[
    Path | None,
    Option(
        metavar="FILE",
        help="YAML file with the same names, and models and output, or a file of mergekit. Flags override it.",
    ),
]


@takes_options(
    (Job, [*EVERYDAY, *OTHERS]),
    everyday=EVERYDAY,
    helps=FUSE,
)
def fuse(
    mode: OutputMode,
    flags: FlagValues,
    models: Annotated[
        list[str] | None,
        Argument(
            metavar="ANCHOR OTHER...",
            show_default=False,
            help="Two or more checkpoint folders or Hub names, or one with --base. The result has the first one's basis"
            " and shape.",
        ),
    ] = None,
    config: Config = None,
    resume: Resume = False,
) -> None:
    """Fuse models into one checkpoint."""
    from transfuse.cli.targets import said_how_to_continue, work_dir
    from transfuse.cli.validation import fuse_request
    from transfuse.report.summary import report_summary
    from transfuse.report.tables import fusion_summary

    job = fuse_request({"models": models} | dict(flags), config, mode.progress.warn)
    work = work_dir(job, resume)
    with quiet_libraries():
        from transfuse.cli.jobs.fuse import fuse_job

        flag = "" if work.persistent else "with --resume "
        limit = job.memory_limit(job)
        with said_how_to_continue(work.folder, flag), limit:
            done = fuse_job(job, work, mode.progress)
    told = {"quality"} if done.report and done.report.measured else ()  # by the report
    record = {name: value for name, value in done.record.items() if name not in told}
    parts: list[RenderableType] = [fusion_summary(done.output, record)]
    if done.report:
        parts += report_summary(done.report.verdict, done.report.measured, done.output / REPORT_PAGE)
    if done.address:
        parts.append(f"On the Hub: {done.address}")
    mode.show(done.as_dict(), lambda: parts)


@takes_options(
    (Job, [*PLANNED, *ALSO_PLANNED]),
    everyday=PLANNED,
    helps=PLAN,
)
def plan(
    mode: OutputMode,
    flags: FlagValues,
    models: Annotated[
        list[str] | None,
        Argument(metavar="ANCHOR OTHER...", show_default=False, help="Two or more checkpoint folders or Hub names."),
    ] = None,
    config: Config = None,
) -> None:
    """Show what fusing would match, and what it requires."""
    from transfuse.cli.validation import plan_request
    from transfuse.report.plan_tables import plan_table

    job = plan_request({"models": models} | dict(flags), config, mode.progress.warn)
    with quiet_libraries():
        from transfuse.cli.jobs.fuse import plan_job

        fusion_plan = plan_job(job, mode.progress)
    mode.show(asdict(fusion_plan), lambda: plan_table(fusion_plan))
