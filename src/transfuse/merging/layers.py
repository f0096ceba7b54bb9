"""Layers on their way from the mean to what was fitted: put in, taken out, kept."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from transfuse.base.cache import Entry, Store
from transfuse.merging.gram import GramMatrix
from transfuse.merging.split import Fit
from transfuse.merging.unit_selection import NEGLIGIBLE, Parameters
from transfuse.network.spec import Linear

RIDGES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)  # candidates, relative to the inputs' mean square

Modules = dict[str, nn.Module]


def submodules(model: nn.Module, names: Iterable[str]) -> Modules:
    """Layers by name."""
    return {name: model.get_submodule(name) for name in names}


def copy_states(modules: Modules) -> dict[str, Parameters]:
    """A copy of what layers hold."""
    return {
        name: {key: values.clone() for key, values in module.state_dict().items()} for name, module in modules.items()
    }


def load_states(modules: Modules, states: Mapping[str, Parameters]) -> None:
    """Layers as they were when `copy_states` was taken."""
    for name, module in modules.items():
        module.load_state_dict(states[name])


def save_layers(store: Store, name: str, modules: Modules, fits: Mapping[str, Fit]) -> None:
    """Layers as they are now, and how well those among them that were fitted were."""
    tensors = {
        f"{layer}/{part}": values for layer, held in copy_states(modules).items() for part, values in held.items()
    }
    store.keep(name, tensors, {layer: asdict(fit) for layer, fit in fits.items()})


def restore_layers(model: nn.Module, kept: Entry) -> dict[str, Fit]:
    """Layers put into the model as they were kept, and their fits."""
    held: dict[str, dict[str, Tensor]] = {}
    for key, values in kept.tensors.items():
        layer, _, part = key.rpartition("/")
        held.setdefault(layer, {})[part] = values
    load_states(submodules(model, held), held)
    fits = {layer: Fit(**facts) for layer, facts in kept.facts.items()}
    return {layer: replace(fit, units=fit.units and tuple(fit.units)) for layer, fit in fits.items()}


@torch.no_grad()
def matches_targets(linear: Linear, module: nn.Module, held: GramMatrix) -> bool:
    """Whether a layer gives what is wanted of it already, but for rounding."""
    before, bias = _columns(linear, module)
    held = held if bias is not None else held.without_ones()
    return held.error(before) <= NEGLIGIBLE * held.square


@torch.no_grad()
def fit_layer(linear: Linear, module: nn.Module, fit: GramMatrix, held: GramMatrix) -> Fit:
    """Choose the ridge on `held`, then fit to all."""
    before, bias = _columns(linear, module)
    if bias is None:
        fit, held = fit.without_ones(), held.without_ones()
    errors = {ridge: held.error(fit.solve(ridge, before)) for ridge in RIDGES}
    best, stays = min(errors, key=lambda ridge: errors[ridge]), held.error(before)
    if errors[best] >= stays or stays <= NEGLIGIBLE * held.square:  # nothing to gain; or nothing but rounding
        return Fit(None, 0.0)
    found = (fit + held).solve(best, before)
    if bias is not None:
        bias.copy_(found[-1])
        found = found[:-1]
    module.get_parameter("weight").copy_(found if linear.transposed else found.T)
    return Fit(best, 1 - errors[best] / stays)


def _columns(linear: Linear, module: nn.Module) -> tuple[Float[Tensor, "reads writes"], Tensor | None]:
    """The weight, the bias below it if there is one, and that bias."""
    tensors = dict(module.named_parameters(recurse=False))
    weight, bias = tensors["weight"], tensors.get("bias")
    before = (weight if linear.transposed else weight.T).double()
    return (before if bias is None else torch.cat([before, bias.double().unsqueeze(0)])), bias
