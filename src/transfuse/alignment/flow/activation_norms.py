"""Measure how strongly the anchor's units are active on either side of a junction, for the weighted policies."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from transfuse.activations.hook_points import HookPoint, output_points
from transfuse.activations.hooks import parameter_values, record_activations
from transfuse.activations.token_filter import TokenFilter
from transfuse.alignment.flow.policy import ActivationNorms
from transfuse.base.batch import Batch
from transfuse.network.layout import fused_outputs
from transfuse.network.model import declaration
from transfuse.network.operations import Junction
from transfuse.network.spec import Spec


def activation_norms(
    spec: Spec, anchor: nn.Module, batches: Iterable[Batch], select: Callable[[HookPoint], TokenFilter]
) -> dict[str, ActivationNorms]:
    """Return the mean absolute activation of every anchor unit, by the name of each space that enters a junction.

    Activations are taken as they are: once standardized, nearly all units would have the same mean.
    """
    points = junction_hook_points(spec)
    hooked = {name: point for name, point in points.items() if point.side != "parameter"}
    sums: dict[str, Tensor] = {}
    count: dict[str, int] = {}
    slices = fused_outputs(declaration(anchor))
    for batch in batches:
        activations = record_activations(anchor, hooked.values(), batch, slices, select)
        for name, point in hooked.items():
            values = activations[point].flatten(0, -2).double().abs()
            sums[name] = sums.get(name, torch.zeros(())) + values.sum(0)
            count[name] = count.get(name, 0) + len(values)
    return {name: total / count[name] for name, total in sums.items()} | {
        name: parameter_values(anchor, point).double().abs().flatten(0, -2).mean(0)
        for name, point in points.items()
        if point.side == "parameter"
    }


def junction_hook_points(spec: Spec) -> dict[str, HookPoint]:
    """Return where each space that enters a junction shows: at its writer, or at its reader if it is joined itself."""
    written = {str(point.axis): point for point in reversed(output_points(spec))}
    read = {str(norm.space): HookPoint(norm.name, "input", norm.space) for norm in spec.norms()}
    read |= {
        str(axis): HookPoint(op.name, "input", axis)
        for op in spec.linears()
        if op.norm is None
        for axis in op.reads
        if str(axis) not in read
    }
    entering = {space.name: space for op in spec.ops if type(op) is Junction for space in (op.skip, op.branch)}
    shown = read | written
    return {name: shown[str(space)] for name, space in entering.items()}
