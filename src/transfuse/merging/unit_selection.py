"""Selection of the units that together explain a target best, and assembly of a layer from them."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from transfuse.base.distributed import process_group
from transfuse.merging.gram import GramMatrix
from transfuse.merging.layer_groups import SelectableUnits
from transfuse.merging.reader_rows import GramPair, ReaderRows
from transfuse.network.operations import Linear

NEGLIGIBLE = 1e-6  # relative to the square of the targets: an error this small is rounding of float32 products
RIDGE = 1e-3  # penalty, relative to the mean square of the inputs
POOL = 256  # units with the largest gains, among which the next ones are selected
BLOCK = 64  # units that are selected, at most, before all moments are updated

Parameters = dict[str, Tensor]
Square = Float[Tensor, "entry entry"]


def forward_selection(
    moments: GramMatrix,
    units: Int[Tensor, "unit entry"],
    count: int,
    required: Int[Tensor, " entry"],
    ridge: float = RIDGE,
    dtype: torch.dtype = torch.float32,
) -> list[int]:
    """Return `count` units, each of which reduces the remaining error most when it is added.

    This is orthogonal least squares (Chen, Billings & Luo, 1989) by groups of columns, as a pivoted Cholesky
    factorization. The next units are selected among a pool of those with the largest gains, on the CPU, as long as none
    outside had a larger gain. Then all moments are updated by one product, so a device is not waited for unit by unit.
    Single precision suffices, unless the penalty is small: it bounds the condition of the moments.

    Args:
        units: the inputs that belong to each unit.
        required: inputs that are part of every solution.
        ridge: penalty, relative to the mean square of the inputs. Units that differ by less count as equal.
        dtype: precision of the selection. A penalty far below the default needs float64.
    """
    inputs = moments.inputs.to(dtype, copy=True)
    inputs.diagonal().add_(ridge * inputs.diagonal().mean())
    residual = Residual(inputs, moments.cross.to(dtype, copy=True), units.to(inputs.device))
    if len(required):
        residual.explain(required.to(inputs.device))
    selected: list[int] = []
    while len(selected) < count:
        selected += residual.take(min(BLOCK, count - len(selected)))
    return selected


class Residual:
    """The part of the inputs and targets that the selected inputs do not explain.

    Attributes:
        inputs, cross: X^T X and X^T T of all inputs, without what the selected ones explain. They are changed in place;
            what is left of selected inputs is rounding, and nothing refers to it.
        units: the inputs of every unit that is left.
        names: the numbers of these units.
    """

    def __init__(self, inputs: Square, cross: Float[Tensor, "entry writes"], units: Int[Tensor, "unit entry"]) -> None:
        self.inputs = inputs
        self.cross = cross
        self.units = units
        self.names = torch.arange(len(units), device=units.device)

    def take(self, count: int) -> list[int]:
        """Select up to `count` units, at least one, and return their numbers."""
        gains = unit_gains(self.inputs, self.cross, self.units)
        pool = gains.topk(min(POOL, len(gains))).indices
        outside = gains.index_fill(0, pool, -1.0).max()
        entries = self.units[pool].flatten()
        local = torch.arange(len(entries)).reshape(len(pool), -1)
        picks = _greedy(self.inputs[entries][:, entries].cpu(), self.cross[entries].cpu(), local, count, float(outside))
        chosen = pool[torch.tensor(picks).to(pool.device)]
        numbers = [int(name) for name in self.names[chosen].cpu()]
        taken = self.units[chosen].flatten()
        left = torch.ones(len(self.units), dtype=torch.bool, device=chosen.device).index_fill_(0, chosen, False)
        self.units = self.units[left]
        self.names = self.names[left]
        self.explain(taken)
        return numbers

    def explain(self, pivot: Int[Tensor, " entry"]) -> None:
        """Subtract what some inputs explain from all moments. These inputs must not be used again."""
        factor, explained = _explained(self.inputs[pivot][:, pivot], self.inputs[:, pivot], self.cross[pivot])
        self.inputs.addmm_(factor, factor.T, alpha=-1)
        self.cross.addmm_(factor, explained, alpha=-1)


def unit_gains(
    inputs: Square, cross: Float[Tensor, "entry writes"], units: Int[Tensor, "unit entry"]
) -> Float[Tensor, " unit"]:
    """Return by how much each unit alone would reduce the squared error."""
    if units.shape[1] == 1:
        entries = units.flatten()
        return cross[entries].square().sum(1) / inputs.diagonal()[entries]
    squares = inputs[units.unsqueeze(2), units.unsqueeze(1)]
    unit_cross = cross[units]
    explained = torch.linalg.solve(squares, unit_cross @ unit_cross.transpose(1, 2))
    return explained.diagonal(dim1=1, dim2=2).sum(1)


def _greedy(
    inputs: Square, cross: Float[Tensor, "entry writes"], units: Int[Tensor, "unit entry"], count: int, outside: float
) -> list[int]:
    """Return the units of a pool that are selected one after the other, as long as their gain exceeds `outside`."""
    picks: list[int] = []
    while len(picks) < count:
        gains = unit_gains(inputs, cross, units)
        gains[picks] = -1.0
        best = int(gains.argmax())
        if picks and float(gains[best]) < outside:
            break
        picks.append(best)
        if len(picks) == len(units):
            break
        pivot = units[best]
        factor, explained = _explained(inputs[pivot][:, pivot], inputs[:, pivot], cross[pivot])
        inputs.addmm_(factor, factor.T, alpha=-1)
        cross.addmm_(factor, explained, alpha=-1)
        inputs[pivot, pivot] = 1.0  # what is left of a selected unit is rounding
        cross[pivot] = 0.0
    return picks


def _explained(
    square: Float[Tensor, "pivot pivot"], columns: Float[Tensor, "entry pivot"], cross: Float[Tensor, "pivot writes"]
) -> tuple[Float[Tensor, "entry pivot"], Float[Tensor, "pivot writes"]]:
    """Return the columns of the Cholesky factor for some pivots, and the part of the targets that these explain."""
    triangle = torch.linalg.cholesky(square)
    factor = torch.linalg.solve_triangular(triangle.T, columns, upper=True, left=False)
    return factor, torch.linalg.solve_triangular(triangle, cross, upper=False)


def select_units(units: SelectableUnits, train: GramPair, validation: ReaderRows, first: int) -> list[int]:
    """Return the selected units as indices into all options, the means before each parent's units.

    The means are returned if the selection does not reduce the validation error.

    Args:
        train: the moments of the means, and of the options from `first` on, side by side.
        validation: rows of the same.
        first: 0 if the means are among the candidates, otherwise 1.
    """
    count = len(units.inputs)
    width = units.inputs.numel()
    options = (len(train[1].cross) - 1) // width  # without the column of ones
    candidates = torch.cat([units.inputs + option * width for option in range(options)])
    bias = _bias_column(units, options * width)
    selected = forward_selection(train[1], candidates, count, bias)
    columns = candidates[selected].flatten()
    mean_inputs = units.inputs.flatten()
    weight = _solution(train[1], torch.cat([columns, bias]))
    mean_weight = _solution(train[0], torch.cat([mean_inputs, _bias_column(units, width)]))
    sums = validation.squared_errors(mean_weight, mean_inputs, weight, columns)
    mean_error, error, target_square = map(float, process_group().all_reduce([sums])[0])
    if error < mean_error - NEGLIGIBLE * target_square:
        return [first * count + unit for unit in selected]
    return list(range(count))


def assemble(
    linears: Sequence[Linear],
    units: SelectableUnits,
    options: Sequence[Mapping[str, Parameters]],
    selected: Sequence[int],
    weights: Sequence[float],
) -> dict[str, Parameters]:
    """Return the tensors of the stage and its reader, with every unit copied from the option it was selected from.

    Args:
        linears: the linear maps that write the units.
        options: the tensors of each option, the means first.
        selected: the selected units, as `select_units` returns them.
        weights: factor for the reader's columns from each option.
    """
    count = len(units.inputs)
    layers = {name: {key: values.clone() for key, values in state.items()} for name, state in options[0].items()}
    reader = units.reader.name
    reader_axis = 0 if units.reader.transposed else 1
    for target, unit in enumerate(selected):
        option = options[unit // count]
        source = unit % count
        for linear in linears:
            entries = units.outputs[linear.name]
            axis = -1 if linear.transposed else 0
            for key, values in layers[linear.name].items():
                unit_values = option[linear.name][key].index_select(axis, entries[source].to(values.device))
                values.index_copy_(axis, entries[target].to(values.device), unit_values)
        matrix = option[reader]["weight"]
        columns = matrix.index_select(reader_axis, units.inputs[source].to(matrix.device))
        target_entries = units.inputs[target].to(columns.device)
        layers[reader]["weight"].index_copy_(reader_axis, target_entries, weights[unit // count] * columns)
    return layers


def _bias_column(units: SelectableUnits, index: int) -> Int[Tensor, " entry"]:
    """Return the index of the column of ones, or no index if the reader has no bias."""
    return torch.tensor([index] if units.reader.bias else [], dtype=torch.long)


def _solution(train: GramMatrix, inputs: Int[Tensor, " selected"]) -> Float[Tensor, "selected writes"]:
    """Return the map fitted from these inputs."""
    moments = train.select_inputs(inputs)
    return moments.solve(RIDGE, torch.zeros_like(moments.cross))
