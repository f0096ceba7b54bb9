"""Selection of units among those of all parents, and assembly of a layer from them."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from transfuse.base.distributed import process_group
from transfuse.merging.fitting.forward_selection import RIDGE, forward_selection
from transfuse.merging.fitting.gram import GramMatrix, bias_index
from transfuse.merging.fitting.layer_groups import SelectableUnits
from transfuse.merging.fitting.reader_rows import GramPair, ReaderRows
from transfuse.network.operations import Linear

NEGLIGIBLE = 1e-6  # relative to the square of the targets: an error this small is rounding of float32 products

Parameters = dict[str, Tensor]


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
    has_bias = units.reader.bias is not None
    bias = bias_index(has_bias, options * width)
    try:
        selected = forward_selection(train[1], candidates, count, bias)
    except torch.linalg.LinAlgError:  # values that are not finite
        return list(range(count))
    columns = candidates[selected].flatten()
    mean_inputs = units.inputs.flatten()
    weight = _solution(train[1], torch.cat([columns, bias]))
    mean_weight = _solution(train[0], torch.cat([mean_inputs, bias_index(has_bias, width)]))
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


def _solution(train: GramMatrix, inputs: Int[Tensor, " selected"]) -> Float[Tensor, "selected writes"]:
    """Return the map fitted from these inputs."""
    moments = train.select_inputs(inputs)
    return moments.solve(RIDGE, torch.zeros_like(moments.cross))
