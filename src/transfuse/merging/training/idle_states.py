"""States that a training was left in while it trains another start.

They stay in memory as long as they take little of it. Others are written to files without names, which the system
deletes when they are read again, or when the process ends, however it ends.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

import torch
from torch import Tensor

from transfuse.base.budget import cache_bytes
from transfuse.base.folders import make_folder
from transfuse.base.run_state import write_state
from transfuse.distillation.loop import TrainingLoop
from transfuse.errors import OutputError


class IdleStates:
    """Keep states of a training by name.

    Attributes:
        folder: where the files are. It is created if it is absent.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._in_memory: dict[str, dict[str, Any]] = {}
        self._in_files: dict[str, IO[bytes]] = {}

    def put(self, name: str, loop: TrainingLoop) -> None:
        """Keep the state of a training as it is now.

        Raises:
            OutputError: it cannot be written.
        """
        state = loop.state_dict()
        if _bytes([state, *self._in_memory.values()]) <= cache_bytes("idle states"):
            self._in_memory[name] = loop.snapshot()
        else:
            self._in_files[name] = self._written(state)

    def pop(self, name: str) -> dict[str, Any]:
        """Return a state, and forget it."""
        if name in self._in_memory:
            return self._in_memory.pop(name)
        with self._in_files.pop(name) as file:
            file.seek(0)
            state: dict[str, Any] = torch.load(file, weights_only=True)
        return state

    def keep_only(self, names: Sequence[str]) -> None:
        """Forget all other states."""
        self._in_memory = {name: state for name, state in self._in_memory.items() if name in names}
        for name in self._in_files.keys() - set(names):
            self._in_files.pop(name).close()

    def _written(self, state: Mapping[str, Any]) -> IO[bytes]:
        """Return a file without a name that holds a state."""
        try:
            make_folder(self.folder)
            file = TemporaryFile(dir=self.folder)  # noqa: SIM115  # it is open as long as its state waits
            write_state(file, state)
            file.flush()
        except OSError as error:
            raise OutputError(
                f"{self.folder}: the state of the training cannot be written ({error.strerror})"
            ) from error
        return file


def _bytes(values: Any) -> int:
    """Return the size of all tensors in nested containers, on any device. Those that share memory count once."""
    return sum({tensor.untyped_storage()._cdata: tensor.nbytes for tensor in _tensors(values)}.values())


def _tensors(values: Any) -> Iterator[Tensor]:
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, Mapping):
        for each in values.values():
            yield from _tensors(each)
    elif isinstance(values, list | tuple):
        for each in values:
            yield from _tensors(each)
