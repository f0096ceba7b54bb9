"""Second moments of the inputs of linear layers, by which an approximation of a layer is judged by its outputs."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel

from transfuse.activations.hooks import MAX_SAMPLES
from transfuse.base.batch import Batch, batch_size, on_device, split_batch, token_mask, without_labels
from transfuse.base.budget import FLOAT64_BYTES
from transfuse.base.grouping import groups_within

ROOM = 2**30  # bytes of moments that are collected in one pass over the samples


class InputMoments(Mapping[str, Tensor]):
    """Map the name of a layer to E[x x^T] of its inputs. Layers are run in groups whose moments fit in memory.

    Moments of one group are in memory at a time, so layers should be asked for in order.
    """

    def __init__(self, model: PreTrainedModel, layers: Sequence[str], batches: Sequence[Batch]) -> None:
        self.model = model
        self.batches = batches
        self.groups = list(groups_within(layers, partial(_moment_bytes, model), ROOM))
        self.group: Sequence[str] = ()
        self.moments: Mapping[str, Tensor] = {}

    def __getitem__(self, name: str) -> Float[Tensor, "reads reads"]:
        if name not in self.group:
            self.group = next((group for group in self.groups if name in group), ())
            self.moments = input_moments(self.model, self.group, self.batches)
        return self.moments[name]

    def __iter__(self) -> Iterator[str]:
        return (name for group in self.groups for name in group)

    def __len__(self) -> int:
        return sum(map(len, self.groups))


@torch.no_grad()
def input_moments(
    model: PreTrainedModel, layers: Sequence[str], batches: Sequence[Batch]
) -> dict[str, Float[Tensor, "reads reads"]]:
    """Return E[x x^T] of the inputs of some layers, in float64, over all tokens but padding.

    A layer that these samples never reach is left out.
    """
    sums: dict[str, Tensor] = {}
    counts: dict[str, int] = {}
    moved: Batch = {}

    def add(name: str, inputs: Tensor) -> None:
        if inputs.ndim == 2 and len(inputs) % batch_size(moved) == 0:  # OPT joins the tokens of all samples
            inputs = inputs.unflatten(0, (batch_size(moved), -1))
        mask = token_mask(moved, name, inputs.shape) if inputs.ndim == 3 else None
        rows = inputs.flatten(0, -2) if mask is None else inputs[mask.bool()]
        counts[name] = counts.get(name, 0) + len(rows)
        sums[name] = sums.get(name, 0) + (rows.T @ rows).double()

    def hook(name: str, module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        add(name, arguments[0].detach())

    with ExitStack() as hooks:
        for name in layers:
            hooks.enter_context(model.get_submodule(name).register_forward_pre_hook(partial(hook, name)))
        for part in (part for batch in batches for part in split_batch(batch, MAX_SAMPLES)):
            moved = on_device(without_labels(part), model.device)
            model(**moved)
    return {name: values / counts[name] for name, values in sums.items() if counts[name]}


def _moment_bytes(model: nn.Module, name: str) -> int:
    module: Any = model.get_submodule(name)
    width: int = module.in_features if isinstance(module, nn.Linear) else module.nx  # else a Conv1D
    return FLOAT64_BYTES * width**2
