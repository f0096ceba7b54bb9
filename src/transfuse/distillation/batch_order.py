"""The order in which training batches are drawn: all of them once, shuffled, before any is drawn again.

Held-out samples prefer this to drawing each batch independently (docs/log.md).
"""

from collections.abc import Mapping
from typing import Any

import torch

from transfuse.base.distributed import process_group


class BatchOrder:
    """Draw the numbers of batches. All processes draw from one order, and each takes its own share.

    Attributes:
        generator: what is random in a training, apart from variants of samples.
    """

    def __init__(self, count: int, seed: int) -> None:
        """
        Args:
            count: the number of batches.
        """
        self.count = count
        self.generator = torch.Generator().manual_seed(seed)
        self._next: list[int] = []

    def draw(self) -> int:
        """Return the number of the next batch of this process."""
        group = process_group()
        while len(self._next) < group.count:
            self._next += torch.randperm(self.count, generator=self.generator).tolist()
        drawn, self._next = self._next[: group.count], self._next[group.count :]
        return drawn[group.rank]

    def state_dict(self) -> dict[str, Any]:
        """Return everything that is needed to resume."""
        return {"generator": self.generator.get_state(), "next": list(self._next)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume from a state, whose number of batches may have been another."""
        self.generator.set_state(state["generator"])
        self._next = [number for number in state["next"] if number < self.count]
