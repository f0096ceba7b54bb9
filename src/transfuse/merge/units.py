"""Which of many units explain a target best together, from second moments alone; and a layer made of them."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from transfuse.merge.stages import Branch
from transfuse.merge.sums import Sums
from transfuse.network.spec import Linear

NEGLIGIBLE = 1e-8  # of the target's square: an error as small as that is rounding, and stays
RIDGE = 1e-3  # relative to the inputs' mean square

Parameters = dict[str, Tensor]


def forward_selection(
    found: Sums, units: Int[Tensor, "unit entry"], count: int, given: Int[Tensor, " entry"]
) -> list[int]:
    """`count` units, each the one that takes most of the error that those before it left (orthogonal least squares,
    Chen, Billings & Luo 1989, by groups of columns).

    Args:
        units: which inputs belong to each.
        given: inputs that are there in any case.
    """
    inputs, cross = found.inputs.clone(), found.cross.clone()
    inputs.diagonal().add_(RIDGE * inputs.diagonal().mean())
    inputs, cross = _without(inputs, cross, given)
    free = torch.ones(len(units), dtype=torch.bool, device=inputs.device)
    chosen: list[int] = []
    for _ in range(count):
        own = inputs[units.unsqueeze(2), units.unsqueeze(1)]  # [unit, entry, entry]
        seen = cross[units]
        gains = (seen * torch.linalg.solve(own, seen)).sum((1, 2)) if units.shape[1] > 1 else (
            seen.square().sum(2) / own[:, 0]
        ).squeeze(1)  # fmt: skip
        best = int(gains.where(free, -1.0).argmax())
        free[best] = False
        chosen.append(best)
        inputs, cross = _without(inputs, cross, units[best])
    return chosen


def _without(
    inputs: Float[Tensor, "reads reads"], cross: Float[Tensor, "reads writes"], pivot: Int[Tensor, " entry"]
) -> tuple[Float[Tensor, "reads reads"], Float[Tensor, "reads writes"]]:
    """What is left of the moments once these inputs have explained what they can; theirs become the identity."""
    if not len(pivot):
        return inputs, cross
    columns = inputs[:, pivot]
    solved = torch.linalg.solve(inputs[pivot][:, pivot], torch.cat([columns.T, cross[pivot]], 1))
    inputs, cross = inputs - columns @ solved[:, : len(inputs)], cross - columns @ solved[:, len(inputs) :]
    inputs[pivot, pivot] = 1.0
    return inputs, cross


def chosen_units(units: Branch, fit: Sums, held: Sums, options: int) -> tuple[list[int], Int[Tensor, " kept"]]:
    """Units of all options one after the other; the means, where nothing else explains held-out samples better.

    And the inputs that then remain, in the reader's order, the one at the end.
    """
    count, width = units.read.shape[0], units.read.numel()
    every = torch.cat([units.read + option * width for option in range(options)])
    one = torch.tensor([options * width])
    ones = one if units.reader.bias else one[:0]
    best = forward_selection(fit, every, count, ones)

    def error(chosen: Sequence[int]) -> float:
        kept = torch.cat([every[list(chosen)].flatten(), ones])
        part = fit.only(kept)
        return held.only(kept).error(part.solve(RIDGE, torch.zeros_like(part.cross)))

    means = list(range(count))
    chosen = best if error(best) < error(means) - NEGLIGIBLE * held.square else means
    inputs = torch.empty(width, dtype=torch.long)
    inputs[units.read.flatten()] = every[chosen].flatten()
    return chosen, torch.cat([inputs, one])


def put_together(
    linears: Sequence[Linear], units: Branch, options: Sequence[Mapping[str, Parameters]], chosen: Sequence[int],
    weights: Sequence[float],
) -> dict[str, Parameters]:  # fmt: skip
    """The weights of writers and reader with every unit from where it was chosen; `weights`: of what reads them."""
    count = len(units.read)
    found = {name: {key: values.clone() for key, values in state.items()} for name, state in options[0].items()}
    for place, unit in enumerate(chosen):
        option, source = options[unit // count], unit % count
        for linear in linears:
            entries = units.written[linear.name]
            for key, values in found[linear.name].items():
                axis = -1 if linear.transposed else 0
                theirs = option[linear.name][key].index_select(axis, entries[source].to(values.device))
                values.index_copy_(axis, entries[place].to(values.device), theirs)
        name, axis = units.reader.name, 0 if units.reader.transposed else 1
        theirs = option[name]["weight"].index_select(axis, units.read[source].to(option[name]["weight"].device))
        share = weights[unit // count]
        found[name]["weight"].index_copy_(axis, units.read[place].to(theirs.device), share * theirs)
    return found
