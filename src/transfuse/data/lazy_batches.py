"""Samples as batches that are made when they are asked for: many images take more memory than the models."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor


@dataclass(frozen=True, eq=False)
class LazyBatches(Sequence[dict[str, Tensor]]):
    """So many samples, some at a time; each batch is made anew every time.

    Attributes:
        inputs: images or texts by their places; `prepare` makes a batch of them.
        labels: of all samples, or none.
        device: where batches go.
    """

    samples: int
    batch_size: int
    inputs: Callable[[Sequence[int]], list[Any]]
    prepare: Callable[[list[Any]], Mapping[str, Tensor]]
    labels: Int[Tensor, " sample"] | None = None
    device: torch.device | None = None

    def __len__(self) -> int:
        return -(-self.samples // self.batch_size)

    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            return [self[each] for each in range(len(self))[place]]
        start = range(0, self.samples, self.batch_size)[place]
        batch = dict(self.prepare(self.inputs(range(start, min(start + self.batch_size, self.samples)))))
        if self.labels is not None:
            batch["labels"] = self.labels[start : start + self.batch_size]
        return batch if self.device is None else {name: values.to(self.device) for name, values in batch.items()}
