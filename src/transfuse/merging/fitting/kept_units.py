"""Selection of the units that stay, with the smallest penalty that rounding allows, and the layer that reads them."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from transfuse.errors import TransfuseError
from transfuse.merging.fitting.forward_selection import forward_selection
from transfuse.merging.fitting.gram import GramMatrix, bias_index
from transfuse.merging.fitting.layer_groups import SelectableUnits
from transfuse.network.operations import Linear

SELECTION_RIDGES = (1e-6, 1e-4, 1e-2)  # a small one does not prefer a repeated unit to a weak one
RIDGES = (1e-10, 1e-8, 1e-6, 1e-4, 1e-2)  # penalties of the layer that reads the units; all relative to the mean square


def chosen_units(
    moments: GramMatrix, units: Int[Tensor, "unit entry"], count: int, with_bias: bool = True
) -> Int[Tensor, " chosen"]:
    """Return the units from which the targets of the moments are explained best, in their own order.

    Args:
        units: the inputs that belong to each unit.
        with_bias: whether a bias, the last input of the moments, explains a part as well.
    """
    bias = bias_index(with_bias, len(moments.inputs) - 1)
    for ridge in SELECTION_RIDGES:
        try:
            return torch.tensor(sorted(forward_selection(moments, units, count, bias, ridge, torch.float64)))
        except torch.linalg.LinAlgError:  # inputs that repeat each other are not told apart from rounding
            continue
    raise TransfuseError("hidden units or heads cannot be told apart on these samples; give other samples, or more")


def reader_of_units(
    train: GramMatrix, validation: GramMatrix, inputs: Int[Tensor, " selected"]
) -> Float[Tensor, "selected writes"]:
    """Return the layer that best writes its targets from some of its inputs.

    Args:
        inputs: the inputs; that of the bias is the last one, if there is a bias.
    """
    train, validation = (moments.select_inputs(inputs) for moments in (train, validation))
    zero = torch.zeros_like(train.cross)
    errors = {ridge: validation.error(train.solve(ridge, zero)) for ridge in RIDGES}
    return (train + validation).solve(min(errors, key=lambda ridge: errors[ridge]), zero)


@torch.no_grad()
def cut_units(
    modules: Mapping[str, nn.Module],
    linears: Sequence[Linear],
    units: SelectableUnits,
    kept: Int[Tensor, " kept"],
    train: GramMatrix,
    validation: GramMatrix,
) -> None:
    """Set all other units to zero in place, and fit the layer that reads the units to those that stay.

    Args:
        modules: the layers that write and read the units, by name.
        linears: the linear maps that write the units.
        kept: the units that stay.
        train, validation: moments of what the reader reads and should write.
    """
    gone = torch.ones(len(units.inputs), dtype=torch.bool).index_fill_(0, kept, False)
    for linear in linears:
        for key, values in modules[linear.name].named_parameters(recurse=False):
            axis = 1 if linear.transposed and key == linear.weight else 0
            values.index_fill_(axis, units.outputs[linear.name][gone].flatten().to(values.device), 0.0)
    reader = modules[units.reader.name]
    columns = units.inputs[kept].flatten()
    bias = bias_index(units.reader.bias is not None, units.inputs.numel())
    solution = reader_of_units(train, validation, torch.cat([columns, bias]))
    weight = reader.get_parameter(units.reader.weight)
    matrix = weight if units.reader.transposed else weight.T
    matrix.zero_()
    matrix[columns.to(matrix.device)] = solution[: len(columns)].to(matrix)
    if units.reader.bias:
        reader.get_parameter(units.reader.bias).copy_(solution[-1])
