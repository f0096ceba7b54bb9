"""The input of a merge method, and what several methods make of it."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property, partial
from typing import Any

from transformers import PreTrainedModel

from transfuse.base.batch import Batch
from transfuse.base.cache import NO_STORE, Store
from transfuse.base.lazy import Tensors
from transfuse.base.progress import Progress, silent
from transfuse.config.literals import LayerOptions, LearningOptions
from transfuse.distillation.teacher_weighting import WeightingFn, uniform
from transfuse.merging.fitting.fit_data import CarryTargets
from transfuse.merging.fitting.growth import Growth
from transfuse.merging.fitting.least_squares import least_squares
from transfuse.merging.mean import mean
from transfuse.merging.per_layer import PerLayer
from transfuse.network.model import Network, declaration, with_tensors


@dataclass(frozen=True, kw_only=True)
class MergeRequest:
    """The input of a merge method.

    Attributes:
        anchor: the first model. `with_tensors(anchor.model, tensors)` builds a model from tensors.
        parents: the tensors of every model in the anchor's basis, by name, the anchor first. They must not be changed
            in place, because they may be mapped from files that are read-only.
        weights: one weight per model. They sum to one.
        batches: prepared calibration samples. Empty without data.
        weighting: method that weights the parents per sample.
        untouched: names of linear maps that must stay the mean, because vocabularies or heads differ.
        base: the tensors of the model that all parents were fine-tuned from, in the anchor's basis; None without it.
        layers: weights and densities that may change over the depth, and options of task vectors.
        learning: training options.
        carry: other targets of fitted layers, where a fine-tune is carried; None: what the parents compute.
        originals: the models of other widths, with more blocks, or whose alignment does not keep what they compute, as
            they are, by their numbers. Their tensors in `parents` only approximate them.
        growth: the shapes between which the model grows; None: it has the shape of its parents. Only least squares and
            learned weights grow.
        record: entries for `transfuse.json`. The method may add some.
    """

    anchor: Network
    parents: Sequence[Tensors]
    weights: Sequence[float]
    batches: Sequence[Batch] = ()
    weighting: WeightingFn = uniform
    untouched: Collection[str] = ()
    base: Tensors | None = None
    layers: LayerOptions = field(default_factory=LayerOptions)
    learning: LearningOptions = field(default_factory=LearningOptions)
    seed: int = 0
    progress: Progress = silent
    store: Store = NO_STORE
    carry: CarryTargets | None = None
    originals: Mapping[int, PreTrainedModel] = field(default_factory=dict)
    growth: Growth | None = None
    record: dict[str, Any] = field(default_factory=dict)

    def teachers(self, parents: Sequence[PreTrainedModel]) -> list[PreTrainedModel]:
        """Return the models whose predictions are learned: the parents, or the originals."""
        return [self.originals.get(number, parent) for number, parent in enumerate(parents)]

    def tensor_weights(self, name: str) -> Sequence[float]:
        """Return one weight per model for a tensor. They sum to one."""
        return self._layer_weights.normalized(name) if self.layers.varies else self.weights

    @cached_property
    def _layer_weights(self) -> PerLayer:
        """Return the weights of every tensor, as they were given."""
        return PerLayer.of(self.anchor, "weights", self.layers.weights or (1.0,) * len(self.parents))


def aligned_parents(request: MergeRequest) -> list[PreTrainedModel]:
    """Return the parents as models in the anchor's basis."""
    return [request.anchor.with_weights(tensors) for tensors in request.parents]


def fitted_models(
    request: MergeRequest, batches: Sequence[Batch], store: Store, parents: Sequence[PreTrainedModel] | None = None
) -> tuple[PreTrainedModel, list[PreTrainedModel]]:
    """Return the model whose layers are fitted, and each parent in its shape.

    Args:
        parents: the parents in the anchor's basis, if there are any already.
    """
    growth = request.growth
    if growth is None:
        fused = with_tensors(request.anchor.model, mean(request.parents, request.weights))
        models = list(parents or aligned_parents(request))
        _fit_layers(request, fused, models, batches, store)
        return fused, models
    widened = growth.widen(request.parents)
    models = [with_tensors(growth.wide, tensors) for tensors in widened]
    fused = with_tensors(growth.wide, mean(widened, request.weights))
    _fit_layers(request, fused, models, batches, store)
    used = growth.used_units(fused)
    starts = [growth.cut(model, growth.start_units(index, used)) for index, model in enumerate(models)]
    return growth.cut(fused, used), starts


def _fit_layers(
    request: MergeRequest,
    fused: PreTrainedModel,
    parents: Sequence[PreTrainedModel],
    batches: Sequence[Batch],
    store: Store,
) -> None:
    """Fit the layers of `fused` in place, and record how well each was fitted."""
    track = partial(request.progress.track, description="fitting layers")
    fits = least_squares(
        declaration(fused),
        fused,
        parents,
        request.weights,
        batches,
        request.weighting,
        request.untouched,
        track,
        store,
        request.carry,
        counts={} if request.growth is None else request.growth.counts,
    )
    request.record["least_squares"] = {name: asdict(fit) for name, fit in fits.items()}
