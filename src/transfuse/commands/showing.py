"""`transfuse demo`."""

from pathlib import Path

import typer

from transfuse.commands.asked import voice
from transfuse.commands.flags import places, running
from transfuse.progress import quiet_libraries
from transfuse.terminal import console


def demo(context: typer.Context, output: places.Folder = Path("demo"), quiet: running.Quiet = False) -> None:
    """Train two small ViTs on handwritten digits and fuse them."""
    from transfuse.checks import check_folder

    check_folder(output)
    screen = console()
    screen.quiet = quiet
    with quiet_libraries():
        from transfuse.demo.run import run

        run(output, voice(context).progress, screen)
