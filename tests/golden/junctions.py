"""The weights of the authors' weighted policies: of transformed activations, where the paper's are of raw ones."""

from collections.abc import Callable, Iterable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import normalize

from transfuse.activations.hook_points import HookPoint
from transfuse.activations.hooks import parameter_values, record_activations
from transfuse.activations.token_filter import TokenFilter
from transfuse.alignment.flow.activation_norms import junction_hook_points
from transfuse.alignment.flow.policy import ActivationNorms
from transfuse.base.batch import Batch
from transfuse.config.literals import Transform
from transfuse.network.layout import fused_outputs
from transfuse.network.model import declaration
from transfuse.network.operations import Junction
from transfuse.network.spec import Spec

Samples = Float[Tensor, "sample unit"]


def released_norms(
    spec: Spec,
    anchor: nn.Module,
    batches: Iterable[Batch],
    select: Callable[[HookPoint], TokenFilter],
    transform: Transform,
) -> dict[str, ActivationNorms]:
    """Return the mean absolute activation of every anchor unit, by the name of each space that enters a junction.

    Activations are transformed first. Behind attention, those of both sides are added after that.
    """
    points = junction_hook_points(spec)
    hooked = {name: point for name, point in points.items() if point.side != "parameter"}
    slices = fused_outputs(declaration(anchor))
    recorded = [record_activations(anchor, hooked.values(), batch, slices, select) for batch in batches]
    samples = {
        name: TRANSFORMS[transform](torch.cat([activations[point].flatten(0, -2) for activations in recorded]))
        for name, point in hooked.items()
    }
    samples |= {
        name: parameter_values(anchor, point).flatten(0, -2) for name, point in points.items() if name not in hooked
    }
    for junction in (op for op in spec.ops if type(op) is Junction):
        if junction.space.name in samples and junction.space.name.endswith("middle"):
            samples[junction.space.name] = samples[junction.skip.name] + samples[junction.branch.name]
    return {name: values.abs().double().mean(0) for name, values in samples.items()}


def _standardize(samples: Samples) -> Samples:
    return (samples - samples.mean(0)) / (samples.std(0) + 1e-9)


def _center(samples: Samples) -> Samples:
    return samples - samples.mean(0)


def _normalize(samples: Samples) -> Samples:
    return normalize(samples, dim=0)


def _raw(samples: Samples) -> Samples:
    return samples


TRANSFORMS: dict[Transform, Callable[[Samples], Samples]] = {
    "standardize": _standardize,
    "center": _center,
    "normalize": _normalize,
    "raw": _raw,
}
