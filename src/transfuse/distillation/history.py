"""The history of a training, and how its progress is followed."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

TrackFn = Callable[[Sequence[int], Callable[[], str]], Iterable[int]]


def untracked(steps: Sequence[int], status: Callable[[], str]) -> Iterable[int]:
    """Return the steps without reporting progress."""
    return steps


@dataclass(frozen=True)
class History:
    """The history of one training run.

    Attributes:
        excess: validation loss of the merged model minus the mean loss of the parents, in `unit`, at every validation.
            This is the loss barrier at the merged model. The first value is from before training.
        steps: number of steps taken.
        best: number of steps after which the restored weights were reached.
        validated: number of steps before each validation.
        unit: of the excess, as in `Validation`.
    """

    excess: tuple[float, ...]
    steps: int
    best: int
    validated: tuple[int, ...]
    unit: str = "nats"
