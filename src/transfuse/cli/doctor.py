"""`transfuse doctor`: check that a model can be fused."""

from typing import Annotated

import typer
from typer import Argument

from transfuse.base.progress import quiet_libraries
from transfuse.cli.context import output_mode
from transfuse.cli.flags import Json, Quiet, Values, takes_options
from transfuse.config.options import Job

OPTIONS = ("data", "match_on", "merge", "samples", "batch_size", "seed", "device", "allow_pickle", "spec")
EXAMPLES = """
transfuse doctor A             by its weights alone
transfuse doctor A --data D    as a fusion with samples would
"""
PROBLEM_STATUS = 1  # exit status if a problem was found


@takes_options((Job, OPTIONS))
def doctor(
    context: typer.Context,
    given: Values,
    model: Annotated[str, Argument(metavar="MODEL", help="A checkpoint folder or Hub name.")],
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Check that a model can be fused, by a test on itself."""
    from transfuse.cli.doctor_summary import examination_summary
    from transfuse.cli.validation import options

    data = given["data"]
    chosen = options({name: value for name, value in given.items() if name != "data"})
    chosen.check_data(data is not None, {})
    mode = output_mode(context)
    with quiet_libraries():
        from transfuse.cli.jobs.doctor import doctor_job

        examination = doctor_job(model, data, chosen, mode.progress)
    mode.show(examination.as_dict(), lambda: examination_summary(examination))
    raise typer.Exit(PROBLEM_STATUS if examination.problems else 0)
