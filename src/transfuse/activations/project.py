"""Linear maps that write more than they read: moments of what they write follow from moments of what they read.

The centred cross-moment of W x and V y is W C V^T, C that of x and y: a feed-forward layer's hidden units in front of
the non-linearity are four times as many as it reads, their products with the other model's sixteen times as many.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from transfuse.activations.hooks import HookPoint, module_name
from transfuse.network.layout import columns
from transfuse.network.model import declaration
from transfuse.transport.cost import Moments, centre

Statistics = Mapping[HookPoint, Moments]


class ProjectedMoments(Statistics):
    """Moments that are made when they are asked for, and not kept."""

    def __init__(self, recipes: Mapping[HookPoint, Callable[[], Moments]]) -> None:
        self._recipes = dict(recipes)

    def __getitem__(self, probe: HookPoint) -> Moments:
        return self._recipes[probe]()

    def __iter__(self) -> Iterator[HookPoint]:
        return iter(self._recipes)

    def __len__(self) -> int:
        return len(self._recipes)


def project_moments(
    source: nn.Module, target: nn.Module, probes: Iterable[HookPoint], look: Callable[[Sequence[HookPoint]], Statistics]
) -> Statistics:
    """Moments of probes, as few products as possible of what the models show.

    Args:
        look: finds moments of probes that show free spaces; of those that are not `crossed`, without products.
    """
    probes = list(probes)
    wide = {probe: replace(probe, crossed=False) for probe in probes if _follows(source, probe, target)}
    plain = [wide.get(probe, probe) for probe in probes]
    reads = [probe.read for probe in wide if probe.read]
    seen = look(list(dict.fromkeys([*reads, *plain])))
    cuts = {model: columns(declaration(model)) for model in (source, target)}

    def make(probe: HookPoint) -> Moments:
        if probe not in wide:
            return seen[probe]
        assert probe.read
        weights = (_weight(model, probe, cuts[model]) for model in (source, target))
        return _through(seen[wide[probe]], seen[probe.read], *weights)

    return ProjectedMoments(
        {probe: partial(make, probe) for probe, found in zip(probes, plain, strict=True) if found in seen}
    )


def _through(
    own: Moments, read: Moments, source: Float[Tensor, "source reads"], target: Float[Tensor, "target reads"]
) -> Moments:
    """Sums and squares as they were seen, products from those of what was read: the biases have gone with the means."""
    cross = source.double() @ centre(read).cross @ target.double().T
    return replace(own, cross=cross.addr_(own.sum_x, own.sum_y, alpha=1 / max(own.count, 1)))


def _follows(source: nn.Module, probe: HookPoint, target: nn.Module) -> bool:
    """Whether what it shows is a linear map of what another probe shows, in both models."""
    if probe.read is None or not any(space.free for space in probe.read.axis.spaces()):
        return False
    modules = [model.get_submodule(module_name(name)) for model in (source, target) for name in probe.parts()]
    return all(type(module) in (nn.Linear, Conv1D) for module in modules)


def _weight(model: nn.Module, probe: HookPoint, cuts: Mapping[str, Tensor]) -> Float[Tensor, "unit reads"]:
    found = []
    for name in probe.parts():
        module = model.get_submodule(module_name(name))
        stored = module.get_parameter("weight").detach()
        rows = stored.T if isinstance(module, Conv1D) else stored
        found.append(rows[cuts[name]] if name in cuts else rows)
    return torch.cat(found) if len(found) > 1 else found[0]
