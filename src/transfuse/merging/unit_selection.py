"""Which of many units explain a target best together, from second moments alone; and a layer made of them."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from transfuse.merging.gram import GramMatrix
from transfuse.merging.layer_groups import SelectableUnits
from transfuse.network.spec import Linear

NEGLIGIBLE = 1e-6  # of the target's square: an error as small as that is rounding (of float32 products), and stays
RIDGE = 1e-3  # relative to the inputs' mean square
PANEL_COLUMNS = 64  # columns of a factor, by the least

Parameters = dict[str, Tensor]
GramPair = tuple[GramMatrix, GramMatrix]


def forward_selection(
    found: GramMatrix, units: Int[Tensor, "unit entry"], count: int, given: Int[Tensor, " entry"]
) -> list[int]:
    """`count` units, each the one that takes most of the error that those before it left (orthogonal least squares,
    Chen, Billings & Luo 1989, by groups of columns).

    A pivoted Cholesky factorisation in panels: what a panel explains is taken away from all the rest at once, in one
    product; until then, only the columns of what is chosen are computed.

    Args:
        units: which inputs belong to each.
        given: inputs that are there in any case.
    """
    inputs = found.inputs.clone()
    inputs.diagonal().add_(RIDGE * inputs.diagonal().mean())
    left = Residual(inputs, found.cross.clone(), units)
    if len(given):
        left.explain(given)
    return [left.take(int(left.gains().argmax())) for _ in range(count)]


class Residual:
    """What the inputs chosen so far leave unexplained, of the others and of the targets."""

    def __init__(
        self,
        inputs: Float[Tensor, "reads reads"],
        cross: Float[Tensor, "reads writes"],
        units: Int[Tensor, "unit entry"],
    ) -> None:
        self.inputs, self.cross, self.units = inputs, cross, units  # without what earlier panels explained
        self.columns = inputs.new_empty(len(inputs), 0)  # this panel's, of the factor
        self.explained = cross.new_empty(0, cross.shape[1])
        self.own = inputs[units.unsqueeze(2), units.unsqueeze(1)]  # [unit, entry, entry]
        seen = cross[units]
        self.seen = seen @ seen.transpose(1, 2)  # of the targets, the same

    def gains(self) -> Float[Tensor, " unit"]:
        """How much of the targets' square each unit would take away."""
        if self.units.shape[1] == 1:
            return (self.seen / self.own).flatten()
        return torch.linalg.solve(self.own, self.seen).diagonal(dim1=1, dim2=2).sum(1)

    def take(self, unit: int) -> int:
        """Have a unit explain what it can; it gains nothing from then on."""
        self.explain(self.units[unit])
        self.own[unit], self.seen[unit] = torch.eye(self.units.shape[1]).to(self.own), -1.0
        return unit

    def explain(self, pivot: Int[Tensor, " entry"]) -> None:
        """Take what these inputs explain away from all others."""
        before, said = self.columns, self.explained
        column = self.inputs[:, pivot] - before @ before[pivot].T
        factor = torch.linalg.cholesky(column[pivot])
        column = torch.linalg.solve_triangular(factor.T, column, upper=True, left=False)
        target = torch.linalg.solve_triangular(factor, self.cross[pivot] - before[pivot] @ said, upper=False)
        shared = self.cross @ target.T - before @ (said @ target.T)  # what is left of the targets, along the new ones
        mine, along = column[self.units], shared[self.units]  # [unit, entry, pivot]
        both = along @ mine.transpose(1, 2)
        self.seen += mine @ (target @ target.T) @ mine.transpose(1, 2) - both - both.transpose(1, 2)
        self.own -= mine @ mine.transpose(1, 2)
        self.columns, self.explained = torch.cat([before, column], 1), torch.cat([said, target])
        if self.columns.shape[1] >= PANEL_COLUMNS:
            self.inputs -= self.columns @ self.columns.T
            self.cross -= self.columns @ self.explained
            self.columns, self.explained = self.columns[:, :0], self.explained[:0]


def select_units(units: SelectableUnits, fit: GramPair, held: GramPair, first: int) -> list[int]:
    """Units of all options one after the other, the means before each parent's own; the means, where nothing else
    explains held-out samples better.

    Args:
        fit, held: the sums of the means, and of all options from the `first` on, side by side.
    """
    count, width = units.read.shape[0], units.read.numel()
    options = (len(fit[1].cross) - 1) // width  # the one at the end aside
    places = torch.cat([units.read + option * width for option in range(options)])
    own, every = (_one(units, length) for length in (width, options * width))
    best = forward_selection(fit[1], places, count, every)
    if _error(fit[1], held[1], torch.cat([places[best].flatten(), every])) < (
        _error(fit[0], held[0], torch.cat([units.read.flatten(), own])) - NEGLIGIBLE * held[0].square
    ):
        return [first * count + unit for unit in best]
    return list(range(count))


def _one(units: SelectableUnits, place: int) -> Int[Tensor, " entry"]:
    """Where the one is that stands for the reader's bias, if it has one."""
    return torch.tensor([place] if units.reader.bias else [], dtype=torch.long)


def _error(fit: GramMatrix, held: GramMatrix, kept: Int[Tensor, " kept"]) -> float:
    """On held-out samples, of a map from these inputs alone."""
    part = fit.only(kept)
    return held.only(kept).error(part.solve(RIDGE, torch.zeros_like(part.cross)))


def assemble(
    linears: Sequence[Linear],
    units: SelectableUnits,
    options: Sequence[Mapping[str, Parameters]],
    chosen: Sequence[int],
    weights: Sequence[float],
) -> dict[str, Parameters]:
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
