"""`transfuse report` and `transfuse demo`."""

from pathlib import Path

import typer

from transfuse.commands.asked import voice
from transfuse.commands.flags import places, running
from transfuse.printable import printable
from transfuse.progress import quiet_libraries
from transfuse.terminal import console


def report(
    context: typer.Context,
    output: places.Fused, data: places.Shown = None, folder: places.Page = None, limit: running.Limit = None,
    batch_size: running.BatchSize = None, device: running.Device = None, cache: places.Cache = None,
    allow_pickle: running.Pickle = None, as_json: running.Json = False, quiet: running.Quiet = False,
) -> None:  # fmt: skip
    """Write an HTML report about a fusion."""
    from transfuse.checks import check_report, options

    changes = {"batch_size": batch_size, "device": device, "allow_pickle": allow_pickle}
    options(changes)
    check_report(folder or output)
    with quiet_libraries():
        from transfuse.jobs.reporting import report_job

        given = {name: value for name, value in changes.items() if value is not None}
        written, verdict = report_job(output, data, limit, folder, cache, given, voice(context).progress)
    said = f"{verdict}\nReport: {printable(str(written))}"
    voice(context).show({"report": str(written), "verdict": verdict}, lambda: said)


def demo(context: typer.Context, output: places.Folder = Path("demo"), quiet: running.Quiet = False) -> None:
    """Train two small ViTs on handwritten digits and fuse them."""
    from transfuse.checks import check_demo

    check_demo(output)
    screen = console()
    screen.quiet = quiet
    with quiet_libraries():
        from transfuse.demo.run import run

        run(output, voice(context).progress, screen)
