"""Predict what a fusion matches, and how much memory and disk space it needs, from headers and configuration only."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from transformers import PreTrainedModel

from transfuse.alignment.exact.stacked_samples import stack_entries
from transfuse.alignment.spec_for import alignment_spec
from transfuse.base.budget import FLOAT64_BYTES, FLOAT_BYTES
from transfuse.checkpoint.adapters.layout import adapter_bytes
from transfuse.config.options import Options
from transfuse.config.settings import torch_dtype
from transfuse.fusion.grow import GrowthPlan, growth_plan, wide_model
from transfuse.fusion.planning.parts import DataPlan
from transfuse.fusion.sizes.changes import size_changes
from transfuse.network.block_numbers import block_number, kind_name
from transfuse.network.layout import unfused
from transfuse.network.model import declaration
from transfuse.network.space import Group, Space
from transfuse.network.spec import Spec

STARTUP_BYTES = 600 * 2**20  # memory of Python, torch and transformers before anything is read
MATRICES = (Group.ORTHOGONAL, Group.CENTERED, Group.LINEAR, Group.COMPLEX)  # groups whose maps are stored as matrices


@dataclass(frozen=True)
class SpaceKind:
    """Describe spaces that differ only in their block.

    Attributes:
        name: the name of the spaces without the number of the block.
        units: the number of units of each space.
        group: the exact group or the transport plan that maps them.
        inside: the units of the spaces around each space, which has one map for every combination of them.
        count: the number of spaces.
    """

    name: str
    units: int
    group: str
    inside: tuple[int, ...]
    count: int


@dataclass(frozen=True)
class ModelHeader:
    """Describe a checkpoint: its class, its number of parameters and their size in bytes."""

    path: str
    architecture: str
    parameters: int
    bytes: int


@dataclass(frozen=True)
class FusionPlan:
    """Describe what a fusion would match and how much memory and disk space it would need.

    Attributes:
        blocks: the number of blocks of every model; blocks are matched in order.
        loaded_bytes: peak memory with all models in memory.
        streamed_bytes: peak memory tensor by tensor; None if that is impossible.
        streams: whether the fusion would run tensor by tensor.
        output_bytes: size of the fused checkpoint.
        map_bytes: disk space for maps, in the cache or while the fusion runs.
        data: the prediction for a fusion with samples; None without samples.
        base_correlation: how the weights of models of one base correlate, which will not be aligned; None: they share
            no base, the user chose the alignment, or the files do not allow to read single tensors.
        adapter_bytes: the largest size of the adapter; None if none is written.
        growth: the sizes that grow and the number of parameters, before and after; None if nothing grows.
        size_changes: the sizes of each model before and after it gets those of the anchor, by its path and by the role
            of the size.
    """

    models: tuple[ModelHeader, ...]
    blocks: int
    spaces: tuple[SpaceKind, ...]
    loaded_bytes: int
    streamed_bytes: int | None
    streams: bool
    output_bytes: int
    map_bytes: int
    data: DataPlan | None = None
    base_correlation: float | None = None
    adapter_bytes: int | None = None
    growth: dict[str, Any] | None = None
    size_changes: dict[str, dict[str, tuple[int, int]]] = field(default_factory=dict)


@dataclass(frozen=True)
class Estimate:
    """Estimate the memory and disk space of fusing models by their weights."""

    models: Sequence[PreTrainedModel]
    options: Options
    whole: Sequence[PreTrainedModel] = ()  # those that give up blocks, before they do; they teach the others

    @cached_property
    def spec(self) -> Spec:
        """Return the declaration of the largest model, as the alignment uses it."""
        largest = max(self.models, key=lambda model: model.num_parameters())
        spec = unfused(declaration(largest))
        return alignment_spec(spec, self.options.align, self.options.flow, self.options.groups)

    @cached_property
    def fitted(self) -> PreTrainedModel:
        """Return the largest model that layers are fitted in: the largest parent, or the units of all side by side."""
        if self.options.grow is not None:
            return wide_model(self.models, self.options.grow)
        return max(self.models, key=lambda model: model.num_parameters())

    @cached_property
    def growth(self) -> GrowthPlan | None:
        """Return the sizes of the result if it grows; None if it has those of the anchor."""
        ratio = self.options.grow
        return None if ratio is None else growth_plan(self.models, ratio)

    @cached_property
    def matched_spaces(self) -> list[Space]:
        """Return the spaces that are matched."""
        return [] if self.options.align == "none" else list(self.spec.spaces().values())

    @property
    def bytes_per_weight(self) -> int:
        """Return the bytes of one weight on disk."""
        return self.models[0].dtype.itemsize

    @property
    def map_bytes(self) -> int:
        """Return the bytes of all maps. A permutation is stored as an index, other maps as one or two matrices."""
        soft = self.options.align == "flow" and self.options.flow.plan != "hard"
        widths_differ = len({model.num_parameters() for model in self.models}) > 1
        matrices = 2 if widths_differ else 1  # with equal widths, one matrix serves both directions
        entry_bytes = matrices * FLOAT_BYTES if soft else 0
        per_source = sum(space.instances * _map_bytes(space, entry_bytes) for space in self.matched_spaces)
        return per_source * (len(self.models) - 1)

    @property
    def output_bytes(self) -> int:
        """Return the size of the fused checkpoint."""
        dtype = torch_dtype(self.options.dtype)
        count = self.growth.parameters["grown"] if self.growth else self.models[0].num_parameters()
        return count * (dtype.itemsize if dtype else self.bytes_per_weight)

    @property
    def loaded_bytes(self) -> int:
        """Return the peak memory with all models in memory."""
        largest = max(model.num_parameters() for model in self.models)
        weight_bytes = int(self._copies_in_memory() * largest * FLOAT_BYTES)
        whole = sum(model.num_parameters() * (model.dtype.itemsize + FLOAT_BYTES) for model in self.whole)
        return STARTUP_BYTES + weight_bytes + whole + self.matching_bytes + self.map_bytes

    def _copies_in_memory(self) -> float:
        """Return how many float32 copies of a model the fusion holds at its peak."""
        count = len(self.models)
        stored = count * self.bytes_per_weight / FLOAT_BYTES if self.bytes_per_weight < FLOAT_BYTES else 0.0
        if not self.matched_spaces:
            return stored + count + 2  # the fused model, and the written one read again to verify it
        transformed = count - 1 if self.options.align == "flow" else 2 * count - 1  # canonical forms too, if exact
        return stored + count + 3 + transformed

    @property
    def streamed_bytes(self) -> int:
        """Return the peak memory tensor by tensor, which the largest tensor or the largest map determines."""
        largest = max(values.numel() for model in self.models for values in model.parameters())
        exact_maps = self.map_bytes if self.options.align == "exact" else 0
        return STARTUP_BYTES + max(4 * largest * FLOAT_BYTES, self.matching_bytes) + exact_maps

    @property
    def matching_bytes(self) -> int:
        """Return the bytes of the cross-moments, scores and solver copies for the largest pair of spaces.

        Large stacks of experts are matched in pairs, for which both models' weights of a layer are held.
        """
        copies = 5 if self.options.align == "flow" else 9
        pair = copies * FLOAT64_BYTES * max((space.units for space in self.matched_spaces), default=0) ** 2
        weights = stack_entries(self.spec) if self.matched_spaces else {}
        return pair + 2 * FLOAT_BYTES * max(weights.values(), default=0)


def fusion_plan(
    paths: Sequence[str], stored: Sequence[PreTrainedModel], estimate: Estimate, streamable: bool, streams: bool
) -> FusionPlan:
    """Return the plan of fusing the models at `paths`.

    Args:
        stored: the models as they are in their files; those of the estimate have the anchor's form.
        streamable: whether the models can stay in their files.
        streams: whether the models will stay in their files.
    """
    rank = estimate.options.adapter_out
    plan_name = f"{estimate.options.flow.plan} plan" if estimate.options.align == "flow" else None
    block_numbers = [number for name in estimate.spec.spaces() if (number := block_number(name)) is not None]
    return FusionPlan(
        models=tuple(model_header(path, model) for path, model in zip(paths, stored, strict=True)),
        blocks=max(block_numbers, default=-1) + 1,
        spaces=tuple(spaces_by_kind(estimate.matched_spaces, plan_name)),
        loaded_bytes=estimate.loaded_bytes,
        streamed_bytes=estimate.streamed_bytes if streamable else None,
        streams=streams,
        output_bytes=estimate.output_bytes,
        map_bytes=estimate.map_bytes,
        growth=None if estimate.growth is None else estimate.growth.record(),
        adapter_bytes=None if rank is None else adapter_bytes(estimate.models[0], rank),
        size_changes={
            path: changes
            for path, before, after in zip(paths, stored, estimate.models, strict=True)
            if (changes := size_changes(before, after))
        },
    )


def model_header(path: str, model: PreTrainedModel) -> ModelHeader:
    """Return class, number of parameters and size of a model, whose tensors may be empty."""
    count = model.num_parameters()
    return ModelHeader(path, type(model).__name__, count, count * model.dtype.itemsize)


def spaces_by_kind(spaces: Iterable[Space], mapped_by: str | None = None) -> dict[SpaceKind, tuple[Space, ...]]:
    """Group spaces that differ only in their block. `mapped_by` replaces the name of each space's exact group."""
    members_of: dict[tuple[str, int, str, tuple[int, ...]], list[Space]] = {}
    for space in spaces:
        inside = tuple(parent.units for parent in space.ancestors())
        key = (kind_name(space.name), space.units, mapped_by or str(space.group), inside)
        members_of.setdefault(key, []).append(space)
    return {SpaceKind(*key, count=len(members)): tuple(members) for key, members in members_of.items()}


def _map_bytes(space: Space, entry_bytes: int) -> int:
    """Return the bytes of one map. `entry_bytes` is the size of an entry of a soft plan, or 0 for a hard map."""
    if entry_bytes:
        return entry_bytes * space.units**2
    return FLOAT64_BYTES * (space.units**2 if space.group in MATRICES else space.units)
