"""Batches that are prepared when they are accessed, because many images take more memory than the models."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from transfuse.base.batch import on_device


@dataclass(frozen=True, eq=False)
class LazyBatches(Sequence[dict[str, Tensor]]):
    """The batches of a number of samples; each batch is prepared again every time it is accessed.

    Attributes:
        samples: number of samples.
        batch_size: samples per batch; the last batch may be smaller.
        inputs: returns images or texts by their indices.
        prepare: makes a batch of images or texts.
        labels: labels of all samples, if there are any.
        device: device of the batches; None for the device that `prepare` returns.
    """

    samples: int
    batch_size: int
    inputs: Callable[[Sequence[int]], list[Any]]
    prepare: Callable[[list[Any]], Mapping[str, Tensor]]
    labels: Int[Tensor, " sample"] | None = None
    device: torch.device | None = None

    def __len__(self) -> int:
        return -(-self.samples // self.batch_size)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[position] for position in range(len(self))[index]]
        start = range(0, self.samples, self.batch_size)[index]
        batch = dict(self.prepare(self.inputs(range(start, min(start + self.batch_size, self.samples)))))
        if self.labels is not None:
            batch["labels"] = self.labels[start : start + self.batch_size]
        return batch if self.device is None else on_device(batch, self.device)
