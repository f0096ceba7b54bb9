"""`transfuse doctor`: check that a model can be fused."""

from typing import Annotated

import typer
from typer import Argument

from transfuse.base.libraries import quiet_libraries
from transfuse.cli.flags import READING, FlagValues, takes_options
from transfuse.cli.help_texts import DOCTOR
from transfuse.cli.output import OutputMode
from transfuse.config.job import Job
from transfuse.config.literals import method_traits
from transfuse.config.validation import check_data
from transfuse.errors import ConfigError

OPTIONS = ("data", "match_on", "merge", "samples", *READING, "batch_size", "seed", "device", "allow_pickle", "spec")
EXAMPLES = """
transfuse doctor A           # matched on weights only
transfuse doctor A --data D  # matched as in a fusion with samples
"""
PROBLEM_STATUS = 1  # exit status if a problem was found


@takes_options((Job, OPTIONS), helps=DOCTOR, metavars={"merge": "auto|mean|least-squares|learned|slerp|..."})
def doctor(
    mode: OutputMode,
    flags: FlagValues,
    model: Annotated[str, Argument(metavar="MODEL", help="A checkpoint folder or Hub name.")],
) -> None:
    """Check that a model can be fused, on a copy of itself."""
    from transfuse.cli.doctor_summary import examination_summary
    from transfuse.cli.validation import options

    data = flags["data"]
    doctor_options = options({name: value for name, value in flags.items() if name != "data"})
    if method_traits(doctor_options.merge).needs_base:
        raise ConfigError(
            f"merge: {doctor_options.merge} takes a base model, which doctor does not; choose another method"
        )
    check_data(doctor_options, data is not None)
    with quiet_libraries():
        from transfuse.cli.jobs.doctor import doctor_job

        examination = doctor_job(model, data, doctor_options, mode.progress)
    mode.show(examination.as_dict(), lambda: examination_summary(examination))
    raise typer.Exit(PROBLEM_STATUS if examination.problems else 0)
