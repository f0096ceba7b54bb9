"""How strongly the anchor's units are active on either side of a junction: the weights of the weighted policies."""

from collections.abc import Callable, Iterable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import normalize

from transfuse.activations.hooks import HookPoint, output_points, parameter_values, record_activations
from transfuse.activations.token_filter import TokenFilter
from transfuse.alignment.flow.policy import Strength
from transfuse.base.batch import Batch
from transfuse.config.literals import Transform
from transfuse.network.layout import columns
from transfuse.network.model import declaration
from transfuse.network.spec import Junction, Spec

Samples = Float[Tensor, "sample unit"]


def activation_norms(
    spec: Spec, anchor: nn.Module, batches: Iterable[Batch], select: Callable[[HookPoint], TokenFilter]
) -> dict[str, Strength]:
    """Mean absolute activation of every anchor unit, by the name of each space that enters a junction.

    Raw activations: the released implementation takes them standardised, when the mean is nearly the same for all.
    """
    probes = {name: probe for name, probe in where(spec).items() if probe.side != "parameter"}
    sums: dict[str, Tensor] = {}
    count: dict[str, int] = {}
    cuts = columns(declaration(anchor))
    for batch in batches:
        seen = record_activations(anchor, probes.values(), batch, cuts, select)
        for name, probe in probes.items():
            values = seen[probe].flatten(0, -2).double().abs()
            sums[name] = sums.get(name, torch.zeros(())) + values.sum(0)
            count[name] = count.get(name, 0) + len(values)
    tables = {name: probe for name, probe in where(spec).items() if probe.side == "parameter"}
    return {name: total / count[name] for name, total in sums.items()} | {
        name: parameter_values(anchor, probe).double().abs().flatten(0, -2).mean(0) for name, probe in tables.items()
    }


def where(spec: Spec) -> dict[str, HookPoint]:
    """Where a space shows that enters a junction: at its writer, or, itself joined, at what reads it."""
    written = {str(probe.axis): probe for probe in reversed(output_points(spec))}
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


def released_strengths(
    spec: Spec,
    anchor: nn.Module,
    batches: Iterable[Batch],
    select: Callable[[HookPoint], TokenFilter],
    transform: Transform,
) -> dict[str, Strength]:
    """As released: activations transformed first; behind attention, the sum of both transformed sides.

    Keeps the samples of every junction, unlike `activation_norms`.
    """
    probes = where(spec)
    hooked = {name: probe for name, probe in probes.items() if probe.side != "parameter"}
    cuts = columns(declaration(anchor))
    seen = [record_activations(anchor, hooked.values(), batch, cuts, select) for batch in batches]
    samples = {
        name: TRANSFORMED[transform](torch.cat([each[probe].flatten(0, -2) for each in seen]))
        for name, probe in hooked.items()
    }
    samples |= {
        name: parameter_values(anchor, probe).flatten(0, -2) for name, probe in probes.items() if name not in hooked
    }
    for junction in (op for op in spec.ops if type(op) is Junction):
        if junction.space.name in samples and junction.space.name.endswith("middle"):
            samples[junction.space.name] = samples[junction.skip.name] + samples[junction.branch.name]
    return {name: values.abs().double().mean(0) for name, values in samples.items()}


def _standardised(samples: Samples) -> Samples:
    return (samples - samples.mean(0)) / (samples.std(0) + 1e-9)


def _centred(samples: Samples) -> Samples:
    return samples - samples.mean(0)


def _normalised(samples: Samples) -> Samples:
    return normalize(samples, dim=0)


def _raw(samples: Samples) -> Samples:
    return samples


TRANSFORMED: dict[Transform, Callable[[Samples], Samples]] = {
    "standardise": _standardised,
    "centre": _centred,
    "normalise": _normalised,
    "raw": _raw,
}
