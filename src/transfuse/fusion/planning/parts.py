"""The parts that the memory of a run consists of, stage by stage.

The C library returns only large blocks to the system when they are freed. What small blocks took remains with the
process, so a later stage can exceed an earlier one that needs as much.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, replace

LARGE_BLOCK = 2**25  # size from which the GNU C library always returns a freed block to the system


@dataclass(frozen=True)
class MemoryParts:
    """Divide the memory of a run into parts, in bytes.

    Attributes:
        program: Python and its libraries.
        models: the parents, the parents in the anchor's basis, and the fused model.
        statistics: moments of activations, Gram matrices and everything else that solves for maps or layers.
        caches: prepared samples, and outputs and predictions that are used again.
        batches: activations and logits of the batch that is being run.
        training: gradients, optimizer states, and copies of weights to return to.
        freed: freed blocks that the C library keeps to use them again.
    """

    program: int = 0
    models: int = 0
    statistics: int = 0
    caches: int = 0
    batches: int = 0
    training: int = 0
    freed: int = 0

    @property
    def total(self) -> int:
        """Return the sum of all parts."""
        return sum(getattr(self, field.name) for field in fields(self))

    def __add__(self, other: "MemoryParts") -> "MemoryParts":
        sums = {field.name: getattr(self, field.name) + getattr(other, field.name) for field in fields(self)}
        return MemoryParts(**sums)


@dataclass(frozen=True)
class MemoryStage:
    """Describe what a run does, and the memory that it takes meanwhile.

    Attributes:
        large: bytes among the parts that are in large blocks of short life.
    """

    name: str
    parts: MemoryParts
    large: int = 0

    def after(self, held: MemoryParts) -> "MemoryStage":
        """Return this stage in a run that holds more besides."""
        return replace(self, parts=self.parts + held)


def with_freed_blocks(stages: Iterable[MemoryStage]) -> Iterator[MemoryStage]:
    """Yield stages with the freed blocks that remain from the stages before."""
    most = 0
    for stage in stages:
        small = stage.parts.total - stage.large
        most = max(most, small)
        yield stage.after(MemoryParts(freed=most - small))


def large_blocks(block_bytes: float, count: float) -> int:
    """Return the size of some blocks if they are large; otherwise 0."""
    return int(count * block_bytes) if block_bytes >= LARGE_BLOCK else 0


@dataclass(frozen=True)
class DataPlan:
    """Describe the predicted memory of a fusion with samples.

    Attributes:
        samples: number of samples.
        tokens: tokens of the longest.
        stage: what is done when most memory is taken.
        parts: what it is taken by then; everything but the program is on the GPU if there is one.
        host_bytes: peak memory of the host.
        device_bytes: peak memory of the GPU; None without one.
        least_bytes: memory without which the fusion cannot run.
    """

    samples: int
    tokens: int
    stage: str
    parts: MemoryParts
    host_bytes: int
    device_bytes: int | None
    least_bytes: int
