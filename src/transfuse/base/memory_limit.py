"""The limit of a run's memory: a watch that ends the run, and the system's limit as a bound of last resort.

Native libraries crash, or report errors of their own, where the system refuses them a few bytes. So a thread watches
the resident memory and raises an error as soon as it exceeds the limit, and the system refuses only what is far beyond.
"""

import ctypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar, copy_context
from dataclasses import dataclass
from typing import Self

import psutil
import torch

from transfuse.base.freed_memory import return_freed_memory
from transfuse.base.sizes import format_bytes
from transfuse.errors import ConfigError, MemoryLimitError

CPU = torch.device("cpu")
MAX_RLIMIT = 2**62  # largest limit in bytes that is passed to the system
INTERVAL = 0.02  # seconds between two looks at the memory
PATIENCE = 1.0  # seconds that an interrupted batch has to free its memory
NAME = "transfuse memory"  # of the thread
SLACK = 2**28  # bytes beyond the limit at which the system refuses memory; an eighth of the limit is added
WORDS = ("out of memory", "allocate memory", "could not create a primitive", "unable to mmap")


@dataclass(frozen=True)
class Limit:
    """Hold the limit of a run.

    Attributes:
        memory: bytes.
        of_files: bytes of them that were pages of files when the run began, such as those of libraries.
    """

    memory: int
    of_files: int


LIMIT: ContextVar[Limit | None] = ContextVar("LIMIT", default=None)
DEVICE_LIMIT: ContextVar[int | None] = ContextVar("DEVICE_LIMIT", default=None)  # bytes on the GPU


def allowed_bytes() -> int | None:
    """Return the limit of the run in bytes; None if it has none."""
    limit = LIMIT.get()
    return None if limit is None else limit.memory


def remaining_bytes() -> int | None:
    """Return how many bytes the run may still take on the host; None if it has no limit."""
    limit = LIMIT.get()
    return None if limit is None else max(0, limit.memory - limit.of_files - _memory()[0])


def remaining_device_bytes(device: torch.device) -> int | None:
    """Return how many bytes the run may still take on a GPU; None if it has no limit."""
    limit = DEVICE_LIMIT.get()
    return None if limit is None else max(0, limit - torch.cuda.memory_allocated(device))


def limit_for(needed: int, device: torch.device) -> int:
    """Return the limit in bytes on a device that suffices for so many bytes more than are in use now."""
    if device.type == "cuda":
        return int(torch.cuda.memory_allocated(device)) + needed
    limit, (own, of_files) = LIMIT.get(), _memory()
    return own + (of_files if limit is None else limit.of_files) + needed


@contextmanager
def memory_limit(memory: int | None, device_memory: int | None = None, device: torch.device = CPU) -> Iterator[None]:
    """Limit the memory of this process, on the host and on its GPU, to a number of bytes each while the block runs.

    Memory beyond a limit raises the error of a machine without free memory. On the host, the process may exceed the
    limit for the moment until it is noticed. Pages that are mapped from files do not count.

    Args:
        device: the device that the run computes on.

    Raises:
        ConfigError: the process uses more than `memory` already, or `device_memory` is given and there is no GPU.
        MemoryLimitError: the process runs out of `memory`.
    """
    with (
        nullcontext() if device_memory is None else _device_memory_limit(device_memory, device),
        nullcontext() if memory is None else _host_memory_limit(memory),
    ):
        yield


@contextmanager
def planned_limit(memory: int | None) -> Iterator[None]:
    """Let batches and caches be planned for a limit in bytes, which is not enforced, while the block runs.

    Args:
        memory: the limit; None: that of the run stays, if it has one.
    """
    if memory is None:
        yield
        return
    token = LIMIT.set(Limit(memory, _memory()[1]))
    try:
        yield
    finally:
        LIMIT.reset(token)


@contextmanager
def without_memory_limit() -> Iterator[None]:
    """Lift --max-memory while addresses are reserved whose pages are never used.

    transformers maps weight files for writing when it only reads their headers, and torch allocates weights before they
    are moved to the meta device. Both would count with their full size.
    """
    try:
        import resource

        previous = resource.getrlimit(resource.RLIMIT_DATA)
    except (ImportError, AttributeError):  # not on Linux, where nothing is limited
        yield
        return
    resource.setrlimit(resource.RLIMIT_DATA, (previous[1], previous[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, previous)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error reports that no memory is left."""
    return isinstance(error, MemoryError) or any(words in str(error) for words in WORDS)


@contextmanager
def _device_memory_limit(memory: int, device: torch.device) -> Iterator[None]:
    if device.type != "cuda":
        raise ConfigError(
            f"max_device_memory: this run computes on {device}, and only a CUDA GPU takes a limit; leave it out, or"
            " choose another --device"
        )
    total = torch.cuda.get_device_properties(device).total_memory
    token = DEVICE_LIMIT.set(memory)
    torch.cuda.set_per_process_memory_fraction(min(1.0, memory / total), device)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, device)
        DEVICE_LIMIT.reset(token)


@contextmanager
def _host_memory_limit(memory: int) -> Iterator[None]:
    torch.ones(2**20).sum()  # starts PyTorch's threads, so that their stacks are counted below
    used = sum(_memory())
    if used > memory:
        raise ConfigError(f"max_memory: this process takes {format_bytes(used)} before it begins; allow more than that")
    try:
        with planned_limit(memory), _system_limit(memory - used + SLACK + memory // 8), _Watch():
            yield
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, torch.OutOfMemoryError) or not is_out_of_memory(error):  # the first is of a GPU
            raise
        raise MemoryLimitError(f"max_memory: this run needs more than {format_bytes(memory)}; allow more") from error


@contextmanager
def _system_limit(growth: int) -> Iterator[None]:
    """Let the system refuse memory if the data segment of this process grows by more than a number of bytes."""
    try:
        import resource

        previous = resource.getrlimit(resource.RLIMIT_DATA)
        used = psutil.Process().memory_info().data
    except (ImportError, AttributeError):  # not on Linux
        yield
        return
    most = MAX_RLIMIT if previous[1] < 0 else previous[1]
    resource.setrlimit(resource.RLIMIT_DATA, (min(used + growth, most), previous[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, previous)


class _Watch:
    """Raise MemoryError in the thread that entered it if the run exceeds its limit."""

    def __init__(self) -> None:
        self.thread = threading.get_ident()
        self.ended = threading.Event()
        self.watcher = threading.Thread(target=copy_context().run, args=(self._watch,), name=NAME, daemon=True)

    def __enter__(self) -> Self:
        self.watcher.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self.watcher.join()
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self.thread), None)  # one that has not arrived

    def _watch(self) -> None:
        while not self.ended.wait(INTERVAL):
            if not remaining_bytes():
                return_freed_memory()
                if not remaining_bytes():
                    error = ctypes.py_object(MemoryError)
                    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self.thread), error)
                    self.ended.wait(PATIENCE)


def _memory() -> tuple[int, int]:
    """Return the resident bytes of this process: its own, and those of pages of files."""
    usage = psutil.Process().memory_info()
    of_files = int(getattr(usage, "shared", 0))
    return int(usage.rss) - of_files, of_files
