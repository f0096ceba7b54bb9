"""The sizes of a fused model that grows, derived from a ratio of parameters."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from transformers import PreTrainedModel

from transfuse.errors import ConfigError, SpecError
from transfuse.merging.fitting.growth import Growth
from transfuse.network.changed_spaces import changed_sizes
from transfuse.network.families import declare
from transfuse.network.operations import Linear
from transfuse.network.parameter_count import CountFn, count_fn, intermediate_size, parameter_count
from transfuse.network.reconfigured import empty_like
from transfuse.network.sizes import Sizes, heads_make_width, is_valid, resized, sizes_of
from transfuse.network.spec import Spec

MIN_SHARE = 0.99  # of the asked number of parameters; less is worth a line


@dataclass(frozen=True)
class GrowthPlan:
    """The sizes of a fusion that grows.

    Attributes:
        anchor: the sizes of the parents.
        wide: those with the units of all parents, where they grow.
        grown: those of the result.
        parameters: the number of parameters of the anchor and of the result.
        has_all: whether the result has room for all units.
    """

    anchor: Sizes
    wide: Sizes
    grown: Sizes
    parameters: dict[str, int]
    has_all: bool

    def record(self) -> dict[str, Any]:
        """Return the entries for `transfuse.json`."""
        changed = {name: size for name, size in self.grown.given().items() if self.anchor.given()[name] != size}
        before = {name: self.anchor.given()[name] for name in changed}
        return {"sizes": {"anchor": before, "grown": changed}, "parameters": self.parameters}

    @property
    def ratio(self) -> float:
        """Return the ratio of parameters to those of the anchor."""
        return self.parameters["grown"] / self.parameters["anchor"]


def growth_plan(models: Sequence[PreTrainedModel], ratio: float) -> GrowthPlan:
    """Return the sizes of a fused model with at most `ratio` times the parameters of the anchor.

    Heads and hidden units grow in equal shares as far as possible. There are never more of them than all parents have,
    where a parent that is larger than the anchor counts as one of its size, since it is brought into that size.

    Args:
        models: the parents, the anchor first, whose tensors may be empty.
        ratio: number of parameters of the result, relative to the anchor.

    Raises:
        ConfigError: no size can grow, or the ratio is too small for one more unit.
        SpecError: the sizes of this family cannot be changed.
    """
    anchor = models[0]
    config, architecture = anchor.config, type(anchor)
    old = sizes_of(config)
    count = count_fn(architecture, config)
    own = parameter_count(architecture, config)
    most = _together(models, old)
    possible = list(_possible(anchor, count, old, most, ratio * own))
    if not possible:
        raise ConfigError(
            f"grow: a {architecture.__name__} cannot have more hidden units or heads than its parents; leave grow out"
        )
    grown = max(possible, key=lambda sizes: _smaller_gain(sizes, old))
    if grown == old:
        raise ConfigError(
            f"grow: {ratio:g} times the anchor's parameters leave no room for more hidden units or heads; give more"
        )
    wide = {role: len(models) * size if _gain(grown, old, role) else size for role, size in old.given().items()}
    parameters = {"anchor": own, "grown": count(grown)}
    unbounded = _possible(anchor, count, old, most, (len(models) + 1) * own)
    largest = max(unbounded, key=lambda sizes: _smaller_gain(sizes, old))
    return GrowthPlan(old, Sizes(**wide), grown, parameters, grown == largest)


def _together(models: Sequence[PreTrainedModel], old: Sizes) -> dict[str, int]:
    """Return how many units of each kind the models have together, each at most as many as the anchor.

    Args:
        old: the sizes of the anchor.
    """
    given = [sizes_of(model.config).given() for model in models]
    return {role: sum(min(sizes.get(role, size), size) for sizes in given) for role, size in old.given().items()}


def _possible(
    anchor: PreTrainedModel, count: CountFn, old: Sizes, most: Mapping[str, int], target: float
) -> Iterator[Sizes]:
    """Yield sizes with at most `target` parameters: every number of heads, with as many hidden units as fit.

    Args:
        most: the largest number of units of each kind.
    """
    config = anchor.config
    with_units = _can_have(anchor, old, intermediate_size=2 * (old.intermediate_size or 0))
    assert old.heads is not None
    groups = old.kv_heads or old.heads
    served = old.heads // groups
    heads_grow = not heads_make_width(config) and _can_have(anchor, old, **_heads(old, 2 * groups, served))
    for number in range(groups, (most["kv_heads" if old.kv_heads else "heads"] if heads_grow else groups) + 1):
        sizes = replace(old, **_heads(old, number, served))
        if not is_valid(resized(config, sizes)):
            continue
        if with_units:
            assert old.intermediate_size is not None
            units = intermediate_size(count, old, sizes, target)
            if units >= old.intermediate_size:
                yield replace(sizes, intermediate_size=min(units, most["intermediate_size"]))
        elif heads_grow and count(sizes) <= target:
            yield sizes


def _heads(old: Sizes, groups: int, served: int) -> dict[str, int]:
    return {"heads": groups * served} | ({"kv_heads": groups} if old.kv_heads else {})


def _gain(sizes: Sizes, old: Sizes, role: str) -> float:
    """Return by what share a size grows; 0 for a model without it."""
    return (sizes.given().get(role, 1) / old.given().get(role, 1)) - 1


def _smaller_gain(sizes: Sizes, old: Sizes) -> tuple[float, float]:
    """Return the smaller and the larger of the gains in heads and in hidden units, so that both grow alike."""
    gains = sorted(_gain(sizes, old, role) for role in ("heads", "intermediate_size"))
    return gains[0], gains[1]


def _can_have(anchor: PreTrainedModel, old: Sizes, **more: int) -> bool:
    """Return whether the units that these sizes add can stand beside the others: only linear maps use them."""
    if not all(type(size) is int and size > 0 for size in (*more.values(), *old.given().values())):
        return False
    config, name = anchor.config, type(anchor).__name__
    spec = declare(config, name)
    try:
        changed = changed_sizes(spec, declare(resized(config, replace(old, **more)), name))
    except SpecError:
        return False
    return bool(changed) and all(_stands_alone(spec, space) for space in changed)


def _stands_alone(spec: Spec, name: str) -> bool:
    """Return whether linear maps write the units of a space, and exactly one map, not behind a norm, reads them."""
    users = [
        op
        for op in spec.ops
        if any(name == level.name for space in op.spaces() for level in (*space.ancestors(), space))
    ]
    linears = [op for op in users if isinstance(op, Linear) and op.observable and not op.stacked and len(op.reads) == 1]
    readers = [op for op in linears if name in {space.name for space in op.reads[0].spaces()}]
    return len(users) == len(linears) and len(readers) == 1 and readers[0].norm is None


def growth(anchor: PreTrainedModel, plan: GrowthPlan) -> Growth:
    """Return models of the anchor's shape, with room for all units, and of the size of the result."""
    wide, grown = (empty_like(anchor, resized(anchor.config, sizes)) for sizes in (plan.wide, plan.grown))
    return Growth(anchor, wide, grown)


def shortfall(plan: GrowthPlan, ratio: float) -> str | None:
    """Return a line if the result is clearly smaller than was asked for; None if it is not."""
    if plan.ratio >= MIN_SHARE * ratio or not plan.has_all:
        return None
    return f"all units that can be added make {plan.ratio:.2f} times the parameters of the anchor, not {ratio:g}"


def wide_model(models: Sequence[PreTrainedModel], ratio: float) -> PreTrainedModel:
    """Return a model without data that has room for the units of all parents. The anchor is the first of them."""
    config = resized(models[0].config, growth_plan(models, ratio).wide)
    return empty_like(models[0], config, torch.device("meta"))
