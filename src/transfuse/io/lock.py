"""One run at a time where two would take away what the other needs."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from transfuse.errors import OutputError

try:
    import fcntl
except ImportError:  # Windows has none: there, nobody is warned
    fcntl = None  # type: ignore[assignment]


@contextmanager
def held(file: Path, what: str) -> Iterator[None]:
    """Hold a file, made if need be, until the block ends or the process does, however it does.

    Args:
        what: is to be written, for the complaint.

    Raises:
        OutputError: another process holds it.
    """
    with file.open("ab") as stream:
        try:
            if fcntl is not None:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise OutputError(f"{what}: another run is writing it; wait for it, or choose another output") from error
        except OSError:  # a file system without locks
            pass
        yield
