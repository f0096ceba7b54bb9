"""The merge methods that a user can choose. Each of them combines aligned models into one.

A new method is one decorated function (see docs/adding-a-merge-method.md).
"""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, partial
from typing import Any, TypeAlias

import torch
from torch import Tensor
from transformers import PreTrainedModel

from transfuse.base.batch import Batch, batch_size, first_samples
from transfuse.base.cache import NO_STORE, Store
from transfuse.base.distributed import process_group
from transfuse.base.lazy import Tensors
from transfuse.base.progress import Progress, silent
from transfuse.config.literals import DENSITY, NEED_BASE, LayerOptions, LearningOptions
from transfuse.config.literals import MERGE_METHODS as NAMES
from transfuse.distillation.teacher_weighting import WeightingFn, uniform
from transfuse.distillation.validation import split_with_answers
from transfuse.merging.growth import Growth
from transfuse.merging.learned_weights import WeightDistillation
from transfuse.merging.least_squares import least_squares
from transfuse.merging.mean import mean
from transfuse.merging.per_layer import PerLayer
from transfuse.merging.slerp import slerp
from transfuse.merging.split import CarryTargets
from transfuse.merging.starts import FITTED, choose_start, saved_choice
from transfuse.merging.task_vectors import Sparsify, add, add_elected, drop, merge_task_vectors, trim
from transfuse.network.model import Network, declaration, tied_to, with_tensors
from transfuse.network.output_losses import output_loss


@dataclass(frozen=True)
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
    growth: Growth | None = None
    record: dict[str, Any] = field(default_factory=dict)

    def tensor_weights(self, name: str) -> Sequence[float]:
        """Return one weight per model for a tensor. They sum to one."""
        return self._layer_weights.normalized(name) if self.layers.varies else self.weights

    @cached_property
    def _layer_weights(self) -> PerLayer:
        """Return the weights of every tensor, as they were given."""
        return PerLayer.of(self.anchor, "weights", self.layers.weights or (1.0,) * len(self.parents))


MAX_FITTED_SAMPLES = 2000  # largest number of samples that layers are fitted to, where training may follow
MIN_START_SAMPLES = 500  # the same where training follows, if they take more than a share of its time
START_SHARE = 0.15  # of the time for training, which fitting its start may take beyond that
BASE_STARTS = ("ties",)  # merges of task vectors that training may start from, if there is a base
FIT_PASSES = 7  # passes of all parents over the samples that take as long as fitting (benchmarks/fuse.py)

MergeMethod: TypeAlias = Callable[[MergeRequest], Mapping[str, Tensor] | PreTrainedModel]
MERGE_METHODS: dict[str, MergeMethod] = {}


def merge_method(name: str, needs_data: bool = False, needs_base: bool = False) -> Callable[[MergeMethod], MergeMethod]:
    """Register a merge method under the name that `--merge` takes.

    Args:
        needs_data: whether it is an error to choose the method without `--data`.
        needs_base: whether it is an error to choose the method without `--base`.
    """

    def register(method: MergeMethod) -> MergeMethod:
        MERGE_METHODS[name] = method
        NAMES[name] = needs_data
        (NEED_BASE.add if needs_base else NEED_BASE.discard)(name)
        return method

    return register


@merge_method("mean")
def merge_mean(request: MergeRequest) -> Tensors:
    """Return the weighted mean of the aligned models."""
    return mean(request.parents, request.tensor_weights)


@merge_method("slerp")
def merge_slerp(request: MergeRequest) -> Tensors:
    """Interpolate two models on the arc between their tensors; the weight of the second is the position."""
    return slerp(request.parents[0], request.parents[1], request.tensor_weights)


@merge_method("task-arithmetic", needs_base=True)
def merge_task_arithmetic(request: MergeRequest) -> Tensors:
    """Add the weighted task vectors to the base."""
    return _merge_task_vectors(request, trim, elected=False, averaged=False, density=1.0)


@merge_method("ties", needs_base=True)
def merge_ties(request: MergeRequest) -> Tensors:
    """Keep the largest entries of the task vectors, and average those that have the elected sign."""
    return _merge_task_vectors(request, trim, elected=True, averaged=True)


@merge_method("dare-linear", needs_base=True)
def merge_dare_linear(request: MergeRequest) -> Tensors:
    """Drop entries of the task vectors at random, rescale the others, and add them."""
    return _merge_task_vectors(request, partial(drop, seed=request.seed), elected=False, averaged=False)


@merge_method("dare-ties", needs_base=True)
def merge_dare_ties(request: MergeRequest) -> Tensors:
    """Drop entries of the task vectors at random, rescale the others, and average those that have the elected sign."""
    return _merge_task_vectors(request, partial(drop, seed=request.seed), elected=True, averaged=True)


def _merge_task_vectors(
    request: MergeRequest, sparsify: Sparsify, elected: bool, averaged: bool, density: float = DENSITY
) -> Tensors:
    """Return the base plus the merged task vector.

    Args:
        averaged: whether weights are relative to each other, unless the user chose it.
        density: of each task vector, unless the user chose it.
    """
    assert request.base is not None
    layers = request.layers
    count = len(request.parents)
    densities = layers.densities or (density,)
    return merge_task_vectors(
        request.base,
        request.parents,
        PerLayer.of(request.anchor, "weights", layers.weights or (1.0,) * count),
        PerLayer.of(request.anchor, "density", densities * count if len(densities) == 1 else densities),
        sparsify,
        add_elected if elected else add,
        averaged if layers.task_weights == "auto" else layers.task_weights == "mean",
        layers.task_scale,
        tied_to(request.anchor.model),
    )


@merge_method("least-squares", needs_data=True)
def merge_least_squares(request: MergeRequest) -> PreTrainedModel:
    """Fit every linear map of the mean to what the parents compute on the samples."""
    return _fitted(request, request.batches, request.store)[0]


@merge_method("learned", needs_data=True)
def merge_learned(request: MergeRequest) -> PreTrainedModel:
    """Start from fitted layers, from a parent, or from merged task vectors, and train all weights to match the parents.

    Held-out samples choose the start and the best step.
    """
    begin = time.monotonic()
    parents = _parents(request)
    split = split_with_answers(parents[0], request.batches, "weights")
    count = _start_samples(request.learning, parents, split[0][0])
    samples = list(first_samples(split[0], count))
    fused, own = _fitted(request, samples, request.store.of(part="to learn from", samples=count), parents)
    starts = {f"model {number}": model for number, model in enumerate(own, 1)}
    if request.base is not None:
        starts |= {name: with_tensors(request.anchor.model, MERGE_METHODS[name](request)) for name in BASE_STARTS}
    loop = WeightDistillation(
        fused, parents, request.weights, split, request.learning, request.weighting, request.untouched, request.seed
    )
    state = request.store.folder and request.store.folder / "weights.pt"
    choice = saved_choice(state) or choose_start(loop, starts, state)
    loop.schedule.spend(time.monotonic() - begin)
    history = loop.run("weights", state, request.progress.track)
    if choice.best_loss < min(history.excess):  # an untrained start is better than the end of the training
        history = replace(history, best=0)
        fused.load_state_dict(choice.best_weights[0])
    if not history.best and choice.best == FITTED:  # training gained nothing, so all samples can be used for the fit
        request.record.clear()
        fused = merge_least_squares(replace(request, batches=list(first_samples(request.batches, MAX_FITTED_SAMPLES))))
    start = choice.start if history.best else choice.best
    request.record["learned_weights"] = asdict(history) | {"start": start, "starts": choice.losses}
    return fused


@torch.no_grad()
def _start_samples(learning: LearningOptions, parents: Sequence[PreTrainedModel], batch: Batch) -> int:
    """Return how many samples the start of the training is fitted to, given a batch to measure a pass of the parents.

    Without a limit of time, the number does not depend on the machine.
    """
    if learning.steps is not None or not learning.trains:
        return MAX_FITTED_SAMPLES
    answers = output_loss(parents[0], in_one_basis=True).answers
    begin = time.monotonic()
    for parent in parents:
        answers(parent, batch)
    seconds = FIT_PASSES * MAX_FITTED_SAMPLES * (time.monotonic() - begin) / batch_size(batch)
    seconds = process_group().all_gather(seconds)[0]
    return MAX_FITTED_SAMPLES if seconds <= START_SHARE * 60 * learning.minutes else MIN_START_SAMPLES


def _parents(request: MergeRequest) -> list[PreTrainedModel]:
    """Return the parents as models in the anchor's basis."""
    return [request.anchor.with_weights(tensors) for tensors in request.parents]


def _fitted(
    request: MergeRequest, batches: Sequence[Batch], store: Store, parents: Sequence[PreTrainedModel] | None = None
) -> tuple[PreTrainedModel, list[PreTrainedModel]]:
    """Return the fitted model, and each parent in its shape.

    Args:
        parents: the parents in the anchor's basis, if there are any already.
    """
    growth = request.growth
    if growth is None:
        fused = with_tensors(request.anchor.model, mean(request.parents, request.weights))
        models = list(parents or _parents(request))
        _fit(request, fused, models, batches, store)
        return fused, models
    widened = growth.widen(request.parents)
    models = [with_tensors(growth.wide, tensors) for tensors in widened]
    fused = with_tensors(growth.wide, mean(widened, request.weights))
    _fit(request, fused, models, batches, store)
    used = growth.used_units(fused)
    starts = [growth.cut(model, growth.start_units(index, used)) for index, model in enumerate(models)]
    return growth.cut(fused, used), starts


def _fit(
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
