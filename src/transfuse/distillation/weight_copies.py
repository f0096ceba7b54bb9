"""Copies of the weights of modules, which share memory where the weights are tied."""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from torch import Tensor, nn

Weights: TypeAlias = list[dict[str, Tensor]]  # of each module, by name


def current_weights(modules: Sequence[nn.Module]) -> Weights:
    """Return the weights themselves, which change as the modules are trained."""
    return [module.state_dict() for module in modules]


def copy_weights(modules: Sequence[nn.Module]) -> Weights:
    """Return a copy of the weights. Tied weights are copied once."""
    stored = [module.state_dict(keep_vars=True) for module in modules]
    tensors = {id(values): values for weights in stored for values in weights.values()}
    copies = {identity: values.detach().clone() for identity, values in tensors.items()}
    return [{name: copies[id(values)] for name, values in weights.items()} for weights in stored]


def load_weights(modules: Sequence[nn.Module], weights: Sequence[Mapping[str, Tensor]]) -> None:
    """Load weights of each module into it."""
    for module, values in zip(modules, weights, strict=True):
        module.load_state_dict(values)
