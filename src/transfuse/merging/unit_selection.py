"""Selection of the units that together explain a target best, and assembly of a layer from them."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from transfuse.merging.gram import GramMatrix
from transfuse.merging.layer_groups import SelectableUnits
from transfuse.network.operations import Linear

NEGLIGIBLE = 1e-6  # relative to the square of the targets: an error this small is rounding of float32 products
RIDGE = 1e-3  # penalty, relative to the mean square of the inputs
PANEL_COLUMNS = 64  # columns of the Cholesky factor that are collected before all moments are updated

Parameters = dict[str, Tensor]
GramPair = tuple[GramMatrix, GramMatrix]  # of the means, and of all candidates side by side


def forward_selection(
    moments: GramMatrix, units: Int[Tensor, "unit entry"], count: int, required: Int[Tensor, " entry"]
) -> list[int]:
    """Return `count` units, each of which reduces the remaining error most when it is added.

    This is orthogonal least squares (Chen, Billings & Luo, 1989) by groups of columns, as a pivoted Cholesky
    factorization in panels. All moments are updated once per panel, by one product. Until then, only the columns of the
    selected units are computed.

    Args:
        units: the inputs that belong to each unit.
        required: inputs that are part of every solution.
    """
    inputs = moments.inputs.clone()
    inputs.diagonal().add_(RIDGE * inputs.diagonal().mean())
    residual = Residual(inputs, moments.cross.clone(), units)
    if len(required):
        residual.explain(required)
    return [residual.take(int(residual.gains().argmax())) for _ in range(count)]


class Residual:
    """The part of the inputs and targets that the selected inputs do not explain.

    Attributes:
        inputs, cross: X^T X and X^T T without what the finished panels explain.
        factor: columns of the Cholesky factor in the current panel.
        explained: rows of the targets that these columns explain.
        unit_squares: current X^T X of every unit, [unit, entry, entry].
        target_squares: current X^T T T^T X of every unit, [unit, entry, entry].
    """

    def __init__(
        self,
        inputs: Float[Tensor, "reads reads"],
        cross: Float[Tensor, "reads writes"],
        units: Int[Tensor, "unit entry"],
    ) -> None:
        self.inputs = inputs
        self.cross = cross
        self.units = units
        self.factor = inputs.new_empty(len(inputs), 0)
        self.explained = cross.new_empty(0, cross.shape[1])
        self.unit_squares = inputs[units.unsqueeze(2), units.unsqueeze(1)]
        unit_cross = cross[units]
        self.target_squares = unit_cross @ unit_cross.transpose(1, 2)

    def gains(self) -> Float[Tensor, " unit"]:
        """Return by how much each unit would reduce the squared error."""
        if self.units.shape[1] == 1:
            return (self.target_squares / self.unit_squares).flatten()
        return torch.linalg.solve(self.unit_squares, self.target_squares).diagonal(dim1=1, dim2=2).sum(1)

    def take(self, unit: int) -> int:
        """Select a unit, so that its gain is negative from now on, and return it."""
        self.explain(self.units[unit])
        self.unit_squares[unit] = torch.eye(self.units.shape[1]).to(self.unit_squares)
        self.target_squares[unit] = -1.0
        return unit

    def explain(self, pivot: Int[Tensor, " entry"]) -> None:
        """Subtract what some inputs explain from all moments."""
        factor = self.factor
        explained = self.explained
        columns = self.inputs[:, pivot] - factor @ factor[pivot].T
        triangle = torch.linalg.cholesky(columns[pivot])
        columns = torch.linalg.solve_triangular(triangle.T, columns, upper=True, left=False)
        targets = torch.linalg.solve_triangular(triangle, self.cross[pivot] - factor[pivot] @ explained, upper=False)
        residual_cross = self.cross @ targets.T - factor @ (explained @ targets.T)
        self._update_units(columns, residual_cross, targets)
        self.factor = torch.cat([factor, columns], 1)
        self.explained = torch.cat([explained, targets])
        if self.factor.shape[1] >= PANEL_COLUMNS:
            self._finish_panel()

    def _update_units(
        self,
        columns: Float[Tensor, "reads pivot"],
        residual_cross: Float[Tensor, "reads pivot"],
        targets: Float[Tensor, "pivot writes"],
    ) -> None:
        """Update the squares of every unit for new columns of the factor."""
        unit_columns = columns[self.units]  # [unit, entry, pivot]
        unit_cross = residual_cross[self.units]
        mixed = unit_cross @ unit_columns.transpose(1, 2)
        square = unit_columns @ (targets @ targets.T) @ unit_columns.transpose(1, 2)
        self.target_squares += square - mixed - mixed.transpose(1, 2)
        self.unit_squares -= unit_columns @ unit_columns.transpose(1, 2)

    def _finish_panel(self) -> None:
        """Subtract what the current panel explains from the moments, and start a new panel."""
        self.inputs -= self.factor @ self.factor.T
        self.cross -= self.factor @ self.explained
        self.factor = self.factor[:, :0]
        self.explained = self.explained[:0]


def select_units(units: SelectableUnits, train: GramPair, validation: GramPair, first: int) -> list[int]:
    """Return the selected units as indices into all options, the means before each parent's units.

    The means are returned if the selection does not reduce the validation error.

    Args:
        train, validation: the moments of the means, and of the options from `first` on, side by side.
        first: 0 if the means are among the candidates, otherwise 1.
    """
    count = len(units.inputs)
    width = units.inputs.numel()
    options = (len(train[1].cross) - 1) // width  # without the column of ones
    candidates = torch.cat([units.inputs + option * width for option in range(options)])
    bias = _bias_column(units, options * width)
    selected = forward_selection(train[1], candidates, count, bias)
    selected_inputs = torch.cat([candidates[selected].flatten(), bias])
    mean_inputs = torch.cat([units.inputs.flatten(), _bias_column(units, width)])
    error = _validation_error(train[1], validation[1], selected_inputs)
    mean_error = _validation_error(train[0], validation[0], mean_inputs)
    if error < mean_error - NEGLIGIBLE * validation[0].target_square:
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


def _validation_error(train: GramMatrix, validation: GramMatrix, inputs: Int[Tensor, " selected"]) -> float:
    """Return the validation error of the map fitted from these inputs."""
    moments = train.select_inputs(inputs)
    return validation.select_inputs(inputs).error(moments.solve(RIDGE, torch.zeros_like(moments.cross)))
