"""Define `transfuse report` and `transfuse demo`."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from transfuse.base.folders import expanded, place
from transfuse.base.libraries import quiet_libraries
from transfuse.cli.flags import READING, FlagValues, Quiet, takes_options
from transfuse.cli.help_texts import REPORT
from transfuse.cli.output import OutputMode, console, output_mode
from transfuse.config.job import Job

REPORT_EXAMPLES = """
transfuse report OUT                      # OUT/report.html, measured on the test split of the fusion's data
transfuse report OUT --data test.parquet  # measured on other samples
"""
DEMO_EXAMPLES = """
transfuse demo -o demo  # a few minutes on two cores; ends with a table and demo/report.html
"""


@takes_options((Job, ["batch_size", "device", "cache", "allow_pickle", *READING]), helps=REPORT)
def report(
    mode: OutputMode,
    flags: FlagValues,
    output: Annotated[Path, Argument(metavar="OUT", help="An output of fuse.")],
    data: Annotated[
        str | None, Option("--data", metavar="DATA", help="Samples to measure on. Default: those used for fusing.")
    ] = None,
    folder: Annotated[
        Path | None, Option("--output", "-o", metavar="DIR", help="Folder to write to. Default: OUT.")
    ] = None,
    limit: Annotated[
        int | None, Option(min=1, metavar="COUNT", help="Measure on at most this many samples. Default: 2000.")
    ] = None,
) -> None:
    """Write an HTML report about a fusion."""
    from transfuse.cli.targets import check_report
    from transfuse.cli.validation import options
    from transfuse.report.summary import report_summary

    changes = {name: value for name, value in flags.items() if name != "cache" and value is not None}
    options(changes)
    output, folder = expanded(output), folder and expanded(folder)
    cache = flags["cache"] and place(flags["cache"])
    check_report(folder or output)
    with quiet_libraries():
        from transfuse.cli.jobs.report import report_job

        page, written = report_job(output, data, limit, folder, cache, changes, mode.progress)
    document = {"report": str(page), "verdict": written.verdict}
    mode.show(document, lambda: report_summary(written.verdict, written.measured, page))


def demo(
    output: Annotated[
        Path, Option("--output", "-o", metavar="OUT", help="Folder for parents, models and report.")
    ] = Path("demo"),
    quiet: Quiet = False,
) -> None:
    """Train two small ViTs on handwritten digits and fuse them."""
    from transfuse.cli.targets import check_demo

    output = expanded(output)
    check_demo(output)
    screen = console()
    screen.quiet = quiet
    with quiet_libraries():
        from transfuse.cli.demo.run import run_demo

        run_demo(output, output_mode(False, quiet).progress, screen)
