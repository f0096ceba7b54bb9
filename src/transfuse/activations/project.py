"""Moments of the outputs of widening linear maps, computed from the moments of their inputs.

If x and y have the centered cross-moment C, then W x and V y have W C V^T. A feed-forward layer has four times as many
hidden units as inputs, so the products of its hidden units with the other model's cost sixteen times as much.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from transfuse.activations.hook_points import HookPoint
from transfuse.activations.hooks import module_name
from transfuse.network.layout import fused_outputs
from transfuse.network.model import declaration
from transfuse.transport.cost import Moments, center

Statistics = Mapping[HookPoint, Moments]


class ProjectedMoments(Statistics):
    """Moments that are computed on every access and not stored."""

    def __init__(self, recipes: Mapping[HookPoint, Callable[[], Moments]]) -> None:
        self._recipes = dict(recipes)

    def __getitem__(self, point: HookPoint) -> Moments:
        return self._recipes[point]()

    def __iter__(self) -> Iterator[HookPoint]:
        return iter(self._recipes)

    def __len__(self) -> int:
        return len(self._recipes)


def project_moments(
    source: nn.Module,
    target: nn.Module,
    points: Iterable[HookPoint],
    collect: Callable[[Sequence[HookPoint]], Statistics],
) -> Statistics:
    """Return the moments of the points with a free space, with as few products of activations as possible.

    Args:
        collect: returns the moments of points with a free space. It may omit the cross-moments of points that are not
            `with_cross`.
    """
    points = list(points)
    projected = {point: replace(point, with_cross=False) for point in points if _is_projection(source, target, point)}
    collected_points = [projected.get(point, point) for point in points]
    narrower = [point.projected_from for point in projected if point.projected_from]
    statistics = collect(list(dict.fromkeys([*narrower, *collected_points])))
    slices = {model: fused_outputs(declaration(model)) for model in (source, target)}

    def compute(point: HookPoint) -> Moments:
        if point not in projected:
            return statistics[point]
        assert point.projected_from
        weights = (_weight(model, point, slices[model]) for model in (source, target))
        return _project(statistics[projected[point]], statistics[point.projected_from], *weights)

    pairs = zip(points, collected_points, strict=True)
    return ProjectedMoments({point: partial(compute, point) for point, collected in pairs if collected in statistics})


def _project(
    outputs: Moments,
    inputs: Moments,
    source_weight: Float[Tensor, "source reads"],
    target_weight: Float[Tensor, "target reads"],
) -> Moments:
    """Return the moments of the outputs, with the cross-moment computed from the inputs.

    Biases do not matter, because the moments of the inputs are centered. The means of the outputs are added again. Rows
    that all samples share may have been counted once as inputs, but once per sample as outputs.
    """
    cross = source_weight.double() @ center(inputs).cross @ target_weight.double().T
    cross *= outputs.count / max(inputs.count, 1)
    return replace(outputs, cross=cross.addr_(outputs.sum_x, outputs.sum_y, alpha=1 / max(outputs.count, 1)))


def _is_projection(source: nn.Module, target: nn.Module, point: HookPoint) -> bool:
    """Return whether both models compute the values at a point by plain linear maps of another free point."""
    if point.projected_from is None or not point.projected_from.is_free:
        return False
    modules = [model.get_submodule(module_name(name)) for model in (source, target) for name in point.layer_names()]
    return all(type(module) in (nn.Linear, Conv1D) for module in modules)


def _weight(model: nn.Module, point: HookPoint, slices: Mapping[str, Tensor]) -> Float[Tensor, "unit reads"]:
    """Return the weights of the linear maps at a point, stacked."""
    weights = []
    for name in point.layer_names():
        module = model.get_submodule(module_name(name))
        stored = module.get_parameter("weight").detach()
        rows = stored.T if isinstance(module, Conv1D) else stored
        weights.append(rows[slices[name]] if name in slices else rows)
    return torch.cat(weights) if len(weights) > 1 else weights[0]
