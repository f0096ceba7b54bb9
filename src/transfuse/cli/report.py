"""`transfuse report` and `transfuse demo`."""

from pathlib import Path

import typer

from transfuse.base.printable import printable
from transfuse.base.progress import quiet_libraries
from transfuse.cli.context import output_mode
from transfuse.cli.flags import places, running
from transfuse.cli.output import console


def report(
    context: typer.Context,
    output: places.Fused,
    data: places.Shown = None,
    folder: places.Page = None,
    limit: running.Limit = None,
    batch_size: running.BatchSize = None,
    device: running.Device = None,
    cache: places.Cache = None,
    allow_pickle: running.Pickle = None,
    as_json: running.Json = False,
    quiet: running.Quiet = False,
) -> None:
    """Write an HTML report about a fusion."""
    from transfuse.cli.validation import check_report, options

    changes = {"batch_size": batch_size, "device": device, "allow_pickle": allow_pickle}
    options(changes)
    check_report(folder or output)
    with quiet_libraries():
        from transfuse.cli.jobs.report import report_job

        given = {name: value for name, value in changes.items() if value is not None}
        written, verdict = report_job(output, data, limit, folder, cache, given, output_mode(context).progress)
    said = f"{verdict}\nReport: {printable(str(written))}"
    output_mode(context).show({"report": str(written), "verdict": verdict}, lambda: said)


def demo(context: typer.Context, output: places.Folder = Path("demo"), quiet: running.Quiet = False) -> None:
    """Train two small ViTs on handwritten digits and fuse them."""
    from transfuse.cli.validation import check_demo

    check_demo(output)
    screen = console()
    screen.quiet = quiet
    with quiet_libraries():
        from transfuse.cli.demo.run import run

        run(output, output_mode(context).progress, screen)
