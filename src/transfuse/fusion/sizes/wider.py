"""A model made wider at the same function, so that it has the widths of the anchor.

A wider residual stream holds each unit several times, if its width is a multiple. Otherwise, it has directions that
stay zero, and is scaled, because norms divide by the root of the mean square. A LayerNorm also subtracts the mean, so
this needs a stream that can be rotated, away from the vector of ones. New heads, channels of heads and hidden units
read and write nothing. Rotary heads get several times their channels (`rotary_heads`). Keys and values that query heads
share are repeated if those of the anchor share none, and the other way round, heads get idle ones (`shared_keys`).
"""

import copy
from dataclasses import dataclass
from math import prod

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

from transfuse.alignment.transform import transform_all
from transfuse.errors import SpecError
from transfuse.fusion.sizes.shared_keys import like_shared, with_shared
from transfuse.network.changed_spaces import changed_sizes
from transfuse.network.families import declare
from transfuse.network.layout import unfused
from transfuse.network.model import declaration, unfused_tensors, with_tensors
from transfuse.network.operations import Parameter
from transfuse.network.precision import as_dtype, compute_dtype
from transfuse.network.reconfigured import empty_like
from transfuse.network.sizes import score_factor
from transfuse.network.space import Dual, Group, Space
from transfuse.network.spec import Spec
from transfuse.network.symmetry import fold, symmetric
from transfuse.network.width_factors import width_factors
from transfuse.shrinking.maps import centered_basis, with_ones
from transfuse.shrinking.rotary_heads import frequency_map, holds_frequencies, scaled_pairs
from transfuse.transport.maps import Map, Matrix

PADDED = (Group.ORTHOGONAL, Group.CENTERED, Group.SIGNED)  # of streams that may have directions that stay zero


@dataclass(frozen=True, eq=False)
class Padding(Matrix):
    """A map to more units, or to a stream of more directions, of which some stay zero. Their gains are one."""

    def scale(self, values: Float[Tensor, "*within rest source"]) -> Float[Tensor, "*within rest target"]:
        shares = self.forward * self.backward
        new = (shares.sum(0) == 0).to(values)
        return values @ (shares / (shares.sum(0) + new)).to(values) + new

    def scale_back(self, values: Float[Tensor, "*within rest source"]) -> Float[Tensor, "*within rest target"]:
        """Also undo that a tied matrix, which reads what it writes, is scaled twice."""
        return self.scale(values) * (self.backward.norm() / self.forward.norm()).to(values)


def wider(model: PreTrainedModel, config: PreTrainedConfig) -> PreTrainedModel:
    """Return a model of larger widths that computes what a model does, in single precision or more.

    Args:
        config: that of the model with larger widths, and otherwise the same.

    Raises:
        SpecError: a width cannot grow without a change of the function.
    """
    dtype = compute_dtype(model.dtype)
    model = model if model.dtype == dtype else as_dtype(copy.deepcopy(model), dtype)
    if (shared := like_shared(model.config, config)) is not model.config:
        model = with_shared(model, shared)
    wide = empty_like(model, config)
    own, target = (symmetric(unfused(declaration(each))) for each in (model, wide))
    maps = widening_maps(own, target, score_factor(model.config, config))
    tensors = dict(transform_all(own, fold(own, unfused_tensors(model)), maps))
    factors = width_factors(wide, own, target) | _gain_factors(own, target)
    for name, factor in factors.items():
        tensors[name] = tensors[name] * factor
    return with_tensors(wide, tensors)


def check_wider(model: PreTrainedModel, own: PreTrainedConfig, config: PreTrainedConfig) -> None:
    """Raise `SpecError` unless models of this class keep their function with larger widths.

    Args:
        own: the configuration before.
        config: the configuration with larger widths.
    """
    name = type(model).__name__
    own = like_shared(own, config)
    narrow, wide = (symmetric(unfused(declare(each, name))) for each in (own, config))
    widening_maps(narrow, wide, score_factor(own, config))


def widening_maps(own: Spec, target: Spec, factor: float) -> dict[str, Map]:
    """Return the map of every space that has more units in the wider model.

    Args:
        own: the symmetric declaration of the model.
        target: that of the wider model.
        factor: by what queries are multiplied.

    Raises:
        SpecError: a space cannot have more units without a change of the function.
    """
    spaces = own.all_spaces()
    normed = {space.name for norm in own.norms() for space in norm.space.spaces()}
    changed = changed_sizes(own, target)
    for norm in (norm for norm in own.norms() if isinstance(norm.space, Dual) and not norm.has_gain):
        if any(space.name in changed for space in norm.space.spaces()):
            raise SpecError(f"{norm.name} has no gain, which would have to make up for the tied head of a wider stream")
    maps: dict[str, Map] = {}
    for name, units in (changed | scaled_pairs(own, changed)).items():
        if holds_frequencies(spaces[name]):
            maps[name] = frequency_map(own, spaces[name], units, factor)
        elif own.has_dual(spaces[name]):
            kept = torch.eye(spaces[name].units, units, dtype=torch.float64)
            maps[name] = Matrix(kept * factor, kept)
        else:
            maps[name] = _map(spaces[name], units, name in normed)
    return maps


def _gain_factors(own: Spec, target: Spec) -> dict[str, float]:
    """Return by what to multiply the gains of norms over all heads, whose mean square new heads make smaller."""
    sizes = {name: prod(axis.size for axis in axes) for name, axes in target.tensors().items()}
    gains = [op for op in own.ops if isinstance(op, Parameter) and op.spans_heads]
    return {op.name: (prod(axis.size for axis in op.axes) / sizes[op.name]) ** 0.5 for op in gains}


def _map(space: Space, units: int, is_normed: bool) -> Map:
    """Return the map to more units of one space.

    Args:
        is_normed: whether a norm spans the space, so that its mean square, and the mean of a LayerNorm, have to stay.
    """
    if not is_normed:
        kept = torch.eye(space.units, units, dtype=torch.float64)
        return Padding(kept, kept)
    if units % space.units == 0:
        copies = torch.eye(space.units, dtype=torch.float64).repeat(1, units // space.units)
        return Matrix(copies, copies * space.units / units)
    if space.group not in PADDED:
        raise SpecError(
            f"{space.name}: a LayerNorm with gains of its own spans its {space.units} units, so {units} would have to"
            " be a multiple of them"
        )
    is_centered = space.group is Group.CENTERED
    basis = centered_basis(units) if is_centered else torch.eye(units, dtype=torch.float64)
    kept = basis[:, : space.units - is_centered]
    directions = (with_ones(kept) if is_centered else kept).T
    scale = (units / space.units) ** 0.5
    return Padding(directions * scale, directions / scale)
