"""Operations on single layers during the fit: copy, load, save, restore, and solve."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from math import inf
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from transfuse.base.cache import Entry, Store
from transfuse.base.owners import by_owner
from transfuse.merging.fitting.fit_data import Fit
from transfuse.merging.fitting.gram import GramMatrix
from transfuse.merging.fitting.unit_selection import NEGLIGIBLE, Parameters
from transfuse.network.operations import Linear

RIDGES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)  # candidate penalties, relative to the mean square of the inputs
DIRECTIONS = 64  # of the targets, in which penalties are compared

Modules = dict[str, nn.Module]


def submodules(model: nn.Module, names: Iterable[str]) -> Modules:
    """Return modules by name."""
    return {name: model.get_submodule(name) for name in names}


def copy_states(modules: Modules) -> dict[str, Parameters]:
    """Return copies of the tensors of modules."""
    return {
        name: {key: values.clone() for key, values in module.state_dict().items()} for name, module in modules.items()
    }


def load_states(modules: Modules, states: Mapping[str, Parameters]) -> None:
    """Load tensors that `copy_states` returned."""
    for name, module in modules.items():
        module.load_state_dict(states[name])


def save_layers(store: Store, name: str, modules: Modules, fits: Mapping[str, Fit]) -> None:
    """Save the tensors of modules, and the results of the fits among them, as a cache entry."""
    save_modules(store, name, modules, {layer: asdict(fit) for layer, fit in fits.items()})


def save_modules(store: Store, name: str, modules: Modules, facts: Any) -> None:
    """Save the tensors of modules, and facts about them that JSON can represent, as a cache entry."""
    if store.folder is None:
        return
    states = copy_states(modules)
    tensors = {f"{layer}/{key}": values for layer, state in states.items() for key, values in state.items()}
    store.keep(name, tensors, facts)


def restore_layers(model: nn.Module, entry: Entry) -> dict[str, Fit]:
    """Load saved tensors into the model and return the saved results."""
    restore_modules(model, entry)
    fits = {layer: Fit(**facts) for layer, facts in entry.facts.items()}
    return {layer: replace(fit, units=fit.units and tuple(fit.units)) for layer, fit in fits.items()}


def restore_modules(model: nn.Module, entry: Entry) -> None:
    """Load the tensors that `save_modules` saved into the model."""
    states = by_owner(entry.tensors)
    load_states(submodules(model, states), states)


@torch.no_grad()
def matches_targets(linear: Linear, module: nn.Module, validation: GramMatrix) -> bool:
    """Return whether a layer already writes its targets, up to rounding."""
    current, bias = _augmented_weight(linear, module)
    validation = validation if bias is not None else validation.without_bias()
    return validation.error(current) <= NEGLIGIBLE * validation.target_square


@torch.no_grad()
def fit_layer(linear: Linear, module: nn.Module, train: GramMatrix, validation: GramMatrix) -> Fit:
    """Fit a layer in place: choose the ridge penalty by the validation error, then fit to all samples.

    The layer stays as it is if no penalty reduces the validation error, or if its error is only rounding.
    """
    current, bias = _augmented_weight(linear, module)
    if bias is None:
        train = train.without_bias()
        validation = validation.without_bias()
    current_error = validation.error(current)
    if current_error <= NEGLIGIBLE * validation.target_square:
        return Fit(None, 0.0)
    best = _best_ridge(train, validation, current)
    error = validation.error(train.solve(best, current))
    if not error < current_error:  # also if it is not a number
        return Fit(None, 0.0)
    weight = (train + validation).solve(best, current)
    if bias is not None:
        bias.copy_(weight[-1])
        weight = weight[:-1]
    module.get_parameter("weight").copy_(weight if linear.transposed else weight.T)
    return Fit(best, 1 - error / current_error)


def _best_ridge(train: GramMatrix, validation: GramMatrix, prior: Float[Tensor, "reads writes"]) -> float:
    """Return the penalty at the lowest point of the validation error.

    The error falls and then rises with the penalty, so the search goes downhill from the middle of the candidates. If
    there are many targets, it is the error in a few random directions, which on average is that of all.
    """
    writes = prior.shape[1]
    if writes > DIRECTIONS:
        generator = torch.Generator().manual_seed(writes)
        directions = torch.randn(writes, DIRECTIONS, generator=generator, dtype=torch.float64).to(prior)
        train, validation = (moments.project_targets(directions) for moments in (train, validation))
        prior = prior @ directions
    errors: dict[int, float] = {}

    def measured(index: int) -> float:
        if index not in errors:
            possible = 0 <= index < len(RIDGES)
            errors[index] = validation.error(train.solve(RIDGES[index], prior)) if possible else inf
        return errors[index]

    best = len(RIDGES) // 2
    while True:
        neighbor = min((best - 1, best + 1), key=measured)
        if not measured(neighbor) < measured(best):
            return RIDGES[best]
        best = neighbor


def _augmented_weight(linear: Linear, module: nn.Module) -> tuple[Float[Tensor, "reads writes"], Tensor | None]:
    """Return the transposed weight in float64, with the bias as its last row if there is one, and that bias."""
    parameters = dict(module.named_parameters(recurse=False))
    weight = parameters["weight"]
    bias = parameters.get("bias")
    columns = (weight if linear.transposed else weight.T).double()
    return (columns if bias is None else torch.cat([columns, bias.double().unsqueeze(0)])), bias
