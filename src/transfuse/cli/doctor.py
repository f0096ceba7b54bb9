"""`transfuse doctor`: check that a model can be fused."""

import typer

from transfuse.base.progress import quiet_libraries
from transfuse.cli.context import output_mode, passed_options
from transfuse.cli.flags import matching, places, running

PROBLEM_STATUS = 1  # exit status if a problem was found


def doctor(
    context: typer.Context,
    model: places.DoctorModel,
    data: places.Data = None,
    evidence: matching.Evidence = None,
    merge: matching.Merge = None,
    samples: running.Samples = None,
    batch_size: running.BatchSize = None,
    seed: running.Seed = None,
    device: running.Device = None,
    allow_pickle: running.Pickle = None,
    spec: places.Spec = None,
    as_json: running.Json = False,
    quiet: running.Quiet = False,
) -> None:
    """Check that a model can be fused, by fusing it with a random symmetric copy of itself."""
    from transfuse.cli.validation import options
    from transfuse.report.checkup import examination_summary

    chosen = options(passed_options(context, "model", "data"))
    chosen.check_data(data is not None, {})
    speak = output_mode(context)
    with quiet_libraries():
        from transfuse.cli.jobs.doctor import doctor_job

        examination = doctor_job(model, data, chosen, speak.progress)
    speak.show(examination.as_dict(), lambda: examination_summary(examination))
    raise typer.Exit(PROBLEM_STATUS if examination.problems else 0)
