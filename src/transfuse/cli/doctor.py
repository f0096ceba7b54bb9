"""`transfuse doctor`: whether the install is sound, and whether a model can be fused on it."""

import typer

from transfuse.base.progress import hushed, quiet_libraries
from transfuse.cli.context import given, voice
from transfuse.cli.flags import matching, places, running

UNWELL = 1  # exit status


def doctor(
    context: typer.Context,
    model: places.Patient = None, data: places.Data = None, evidence: matching.Evidence = None,
    merge: matching.Merge = None, samples: running.Samples = None, batch_size: running.BatchSize = None,
    seed: running.Seed = None, device: running.Device = None, allow_pickle: running.Pickle = None,
    spec: places.Spec = None, as_json: running.Json = False, quiet: running.Quiet = False,
) -> None:  # fmt: skip
    """Check the installation, or check that a model can be fused."""
    from transfuse.cli.validation import model_options
    from transfuse.report.checkup import examination_summary, install_summary, packages_summary

    flags = given(context, "model", "data")
    chosen, speak = model_options(flags, model, data), voice(context)
    if model is None:
        from transfuse.install import packages

        with hushed():
            found = packages()
        broken = [each.problem for each in found if each.problem]
        if broken:  # nothing more can be asked of it
            document = {"packages": [vars(each) for each in found], "problems": broken}
            speak.show(document, lambda: packages_summary(found))
            raise typer.Exit(UNWELL)
        with quiet_libraries():
            from transfuse.cli.jobs.doctor import install_job

            install = install_job(found)
        speak.show(install.as_dict(), lambda: install_summary(install))
        raise typer.Exit(UNWELL if install.problems else 0)
    with quiet_libraries():
        from transfuse.cli.jobs.doctor import model_job

        examined = model_job(model, data, chosen, speak.progress)
    speak.show(examined.as_dict(), lambda: examination_summary(examined))
    raise typer.Exit(UNWELL if examined.problems else 0)
