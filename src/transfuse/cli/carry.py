"""Define `transfuse carry`, which puts what a fine-tune learned into another base."""

from dataclasses import asdict
from typing import Annotated

from typer import Argument, Option

from transfuse.base.libraries import quiet_libraries
from transfuse.checkpoint.writing.owned import REPORT_PAGE
from transfuse.cli.flags import READING, FlagValues, takes_options
from transfuse.cli.help_texts import CARRY
from transfuse.cli.output import OutputMode
from transfuse.config.job import Job

EVERYDAY = ("output", "data", "effort", "samples", "device", "max_memory", "report", "overwrite")
OTHERS = (
    "minutes",
    "steps",
    "learning_rate",
    "augment",
    "adapter_out",
    "maps",
    "match_on",
    "groups",
    "dtype",
    *READING,
    "batch_size",
    "seed",
    "max_device_memory",
    "allow_pickle",
    "spec",
)
EXAMPLES = """
transfuse carry BASE TUNED NEW -o OUT                          # by their weights only
transfuse carry BASE TUNED NEW -o OUT --data D                 # trained on unlabeled samples of the task for 5 minutes
transfuse carry BASE TUNED NEW -o OUT --data D --keep K        # and, on samples K, kept as NEW is
transfuse carry BASE TUNED NEW -o OUT --data D --effort quick  # fitted to the samples, and not trained
transfuse carry BASE TUNED NEW -o OUT --adapter-out 16         # with an adapter for NEW in OUT/adapter
transfuse carry BASE TUNED NEW --data D --dry-run              # the memory needed, and nothing is written
"""


@takes_options(
    (Job, [*EVERYDAY, *OTHERS]),
    everyday=EVERYDAY,
    helps=CARRY,
)
def carry(
    mode: OutputMode,
    flags: FlagValues,
    base: Annotated[str, Argument(metavar="BASE", help="The model that was tuned.")],
    tuned: Annotated[str, Argument(metavar="TUNED", help="A fine-tune of BASE, or its adapter.")],
    new_base: Annotated[
        str,
        Argument(
            metavar="NEW", help="The model that receives the change: the same architecture, trained independently."
        ),
    ],
    keep: Annotated[
        str | None,
        Option(metavar="DATA", help="Unlabeled samples of what NEW should keep. They are read like --data."),
    ] = None,
    dry_run: Annotated[
        bool, Option("--dry-run", help="Show what would be matched, and the memory needed, and write nothing.")
    ] = False,
) -> None:
    """Carry a fine-tune to another base."""
    from transfuse.cli.validation import carry_request

    job = carry_request({"models": [new_base, base, tuned]} | dict(flags), keep, dry_run)
    with quiet_libraries():
        from transfuse.cli.jobs.carry import carry_job, plan_job
        from transfuse.report.carried import carry_summary
        from transfuse.report.plan_tables import plan_table
        from transfuse.report.summary import report_line

        plan = plan_job(job, keep, mode.progress) if dry_run else None
        if plan is None:
            with job.memory_limit(job):
                done = carry_job(job, keep, mode.progress)
    if plan is not None:
        mode.show(asdict(plan), lambda: plan_table(plan))
        return
    page = [report_line(done.output / REPORT_PAGE)] if done.report else []
    mode.show(done.as_dict(), lambda: [carry_summary(done.output, done.record), *page])
