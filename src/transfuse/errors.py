"""What can be wrong with what a user gave. Each message is one line: what, where, what to do."""

from collections.abc import Sequence


class TransfuseError(ValueError):
    """Base of every error that is the input's fault; the command line prints it and exits with status 2."""


class SpecError(TransfuseError):
    """A declaration and a checkpoint disagree: names tensor, axis, expected layout and found shape."""


class CheckpointError(TransfuseError):
    """A checkpoint that cannot be read, is incomplete, or must not be loaded."""


class QuantizedError(CheckpointError):
    """Weights that are stored in a quantized format."""


class NotFiniteError(CheckpointError):
    """Weights with NaN or infinity."""


class DataError(TransfuseError):
    """A data source that cannot be read or lacks what the model needs."""


class NoLabelsError(DataError):
    """A data source without labels, on which models can only be compared with each other."""


class MissingLabelsError(DataError):
    """A data source of which some samples have no label; `labeled` are the places of those that have one."""

    def __init__(self, message: str, labeled: Sequence[int] = ()) -> None:
        super().__init__(message)
        self.labeled = labeled


class ConfigError(TransfuseError):
    """Options or models that are unknown, missing or invalid, or that do not fit together."""


class DivergedError(ConfigError):
    """A training whose weights became NaN or infinite, so that it cannot be continued."""


class MemoryLimitError(ConfigError):
    """A run that needs more memory than --max-memory allows."""


class OutputError(TransfuseError):
    """A file or folder of an output, a cache or unfinished work that cannot be written, or must not be replaced."""


class DiskFullError(OutputError):
    """An output or unfinished work for which the disk has no space left."""


class InterruptedRunError(TransfuseError):
    """An interruption by the user, of a run that can be continued."""


NO_TARGETS = "the data has no text with a token to predict; give longer texts"


def in_short(error: BaseException) -> str:
    """Return the start of an error's message as one line."""
    return " ".join(str(error).split())[:200]


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, with the next if it ends at a colon, or its type if it has none."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[: 2 if lines[0].endswith(":") else 1]) if lines else type(error).__name__
