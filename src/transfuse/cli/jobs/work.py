"""The folder of unfinished work beside an output: made, locked, and removed once the output is written."""

import shutil
from collections.abc import Callable, Iterator, Sequence
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
def working_in(work: WorkDir, output: Path) -> Iterator[None]:
    """Make and lock the work folder, and remove it afterward unless it is persistent.

    An interrupted run leaves the folder only if it has intermediate results and the output is not written yet. A run
    whose models, samples or options turn out not to fit together removes its own results, because no other run
    continues from them; those of an earlier run stay.
    """
    absent = [parent for parent in work.folder.absolute().parents if not parent.exists()]
    first = process_group().first
    with (
        _locked(work, output) if first else nullcontext(),
        removed_once_written(output, () if work.persistent or not first else (work.folder,), _remove_results),
    ):
        make_folder(work.folder)
        continues = _has_results(work.folder)
        try:
            yield
        except BaseException as error:
            if work.persistent:
                raise
            if isinstance(error, REFUSALS) and not isinstance(error, MemoryLimitError) and not continues:
                _remove_results(work.folder)
            if not _has_results(work.folder):
                shutil.rmtree(work.folder, ignore_errors=True)
                remove_empty(absent)
            raise


@contextmanager
def removed_once_written(output: Path, folders: Sequence[Path], remove: Callable[[Path], None]) -> Iterator[None]:
    """Remove intermediate results once a new folder has taken the place of the output, even if the run is interrupted.

    Args:
        folders: those with the results.
        remove: removes what the run has left in one of them.

    Raises:
        InterruptedRunError: interrupted after the output was written.
    """
    before = _inode(output)
    try:
        yield
        for folder in folders:
            remove(folder)
    except BaseException as error:
        if _inode(output) in (None, before):
            raise
        for folder in folders:
            remove(folder)
        if isinstance(error, KeyboardInterrupt):
            raise InterruptedRunError(f"interrupted; {output} is complete") from error
        raise


def _inode(folder: Path) -> int | None:
    return folder.stat().st_ino if folder.exists() else None


def _has_results(folder: Path) -> bool:
    return any(path.is_file() and path.name != MARKER for path in folder.rglob("*"))


def _remove_results(folder: Path) -> None:
    """Remove the results in a work folder, and the folder too unless it has other files."""
    for path in folder.glob("*"):
        if CACHE_FOLDER.fullmatch(path.name) and path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
    if {path.name for path in folder.glob("*")} <= {MARKER}:
        shutil.rmtree(folder, ignore_errors=True)
