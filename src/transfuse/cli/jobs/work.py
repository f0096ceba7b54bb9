"""The folder of unfinished work beside an output: made, locked, and removed once the output is written."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from transfuse.base.distributed import process_group
from transfuse.base.folders import make_folder, remove_empty
from transfuse.base.lock import file_lock
from transfuse.checkpoint.writing.locked_output import locked_output
from transfuse.checkpoint.writing.owned import CACHE_FOLDER, MARKER
from transfuse.cli.targets import WorkDir
from transfuse.errors import ConfigError, DataError, InterruptedRunError, MemoryLimitError, SpecError

REFUSALS = (ConfigError, DataError, SpecError)


@contextmanager
def _locked(work: WorkDir, output: Path) -> Iterator[None]:
    """Lock the output, and the work folder unless it is a cache that several runs share.

    Raises:
        OutputError: another run has the lock.
    """
    with locked_output(output):
        make_folder(work.folder)
        with nullcontext() if work.persistent else file_lock(work.folder / MARKER, str(output)):
            yield


@contextmanager
def working_in(work: WorkDir, output: Path) -> Iterator[Callable[[], None]]:
    """Make and lock the work folder, and remove it afterward unless it is persistent.

    An interrupted run leaves the folder only if it has intermediate results and the output is not written yet. A run
    whose models, samples or options turn out not to fit together removes its own results, because no other run
    continues from them; those of an earlier run stay.

    Yields:
        A function to call when the output is written.
    """
    absent = [parent for parent in work.folder.absolute().parents if not parent.exists()]
    with _locked(work, output) if process_group().first else nullcontext():
        make_folder(work.folder)
        written = []
        if work.persistent:
            yield lambda: None
            return
        continues = _has_results(work.folder)
        try:
            yield lambda: written.append(output)
        except BaseException as error:
            unusable = isinstance(error, REFUSALS) and not isinstance(error, MemoryLimitError) and not continues
            if unusable or written:
                _remove_results(work.folder)
            if not _has_results(work.folder):
                shutil.rmtree(work.folder, ignore_errors=True)
                remove_empty(absent)
            raise
        if process_group().first:
            try:
                _remove_results(work.folder)
            except KeyboardInterrupt as error:
                _remove_results(work.folder)
                raise InterruptedRunError(f"interrupted; {output} is complete") from error


def _has_results(folder: Path) -> bool:
    return any(path.is_file() and path.name != MARKER for path in folder.rglob("*"))


def _remove_results(folder: Path) -> None:
    """Remove the results in a work folder, and the folder too unless it has other files."""
    for path in folder.glob("*"):
        if CACHE_FOLDER.fullmatch(path.name) and path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
    if {path.name for path in folder.glob("*")} <= {MARKER}:
        shutil.rmtree(folder, ignore_errors=True)
