"""The merge methods that a user can choose. Each of them combines aligned models into one.

A new method is one decorated function (see docs/adding-a-merge-method.md).
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from math import isfinite
from typing import TypeAlias

import torch
from torch import Tensor
from transformers import PreTrainedModel

from transfuse.base.batch import Batch, batch_size, first_samples, is_labeled_per_sample
from transfuse.base.distributed import process_group, seconds_since
from transfuse.base.lazy import Tensors
from transfuse.config.literals import DENSITY, NEED_BASE, LearningOptions
from transfuse.config.literals import MERGE_METHODS as NAMES
from transfuse.data.sample_budget import QUICK_MINUTES
from transfuse.distillation.text_variants import is_masked
from transfuse.distillation.validation import BatchSplit, split_with_answers
from transfuse.merging.learned_carry import CarryDistillation
from transfuse.merging.learned_weights import WeightDistillation
from transfuse.merging.mean import mean
from transfuse.merging.per_layer import PerLayer
from transfuse.merging.request import MergeRequest, aligned_parents, fitted_models
from transfuse.merging.separate_experts import separate_experts
from transfuse.merging.slerp import slerp
from transfuse.merging.starts import FITTED, PREDICTIONS_ONLY, choose_start, saved_choice
from transfuse.merging.task_vectors import Sparsify, add, add_elected, drop, merge_task_vectors, trim
from transfuse.network.model import tied_to, with_tensors
from transfuse.network.output_losses import output_loss

MAX_FITTED_SAMPLES = 2000  # largest number of samples that layers are fitted to, where training may follow
MIN_START_SAMPLES = 500  # the same where training follows, if they take more than a share of its time
START_SHARE = 0.15  # of the time for training, which fitting its start may take beyond that
BASE_STARTS = ("ties",)  # merges of task vectors that training may start from, if there is a base
NEW_BASE = "new base"  # from which training may start where a fine-tune is carried
MIN_GAIN = 0.02  # least share of the loss of fitted layers, against the parents', that training has to remove
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
    first, second = request.parents
    return slerp(first, second, request.tensor_weights, separate_experts(request.anchor))


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
        separate_experts(request.anchor),
    )


@merge_method("least-squares", needs_data=True)
def merge_least_squares(request: MergeRequest) -> PreTrainedModel:
    """Fit every linear map of the mean to what the parents compute on the samples."""
    return fitted_models(request, request.batches, request.store)[0]


@merge_method("learned", needs_data=True)
def merge_learned(request: MergeRequest) -> PreTrainedModel:
    """Start from fitted layers, from a parent, or from merged task vectors, and train all weights to match the parents.

    Held-out samples choose the start and the best step. A carried fine-tune starts from fitted layers or the new base.
    """
    if request.carry is not None and request.originals:
        return _taught_new_base(request)
    begin = time.monotonic()
    parents = aligned_parents(request)
    split = split_with_answers(parents[0], request.batches, "weights")
    first = split[0][0]
    count = _start_samples(request.learning, parents, first)
    samples = list(first_samples(split[0], count))
    carry, kept = request.carry, None
    if carry is not None and carry.kept:
        kept = split_with_answers(parents[0], carry.kept, "weights")
        carry = replace(carry, kept=list(first_samples(kept[0], count)))
    store = request.store.of(part="to learn from", samples=count)
    fused, own = fitted_models(replace(request, carry=carry), samples, store, parents)
    loop = _distillation(request, fused, request.teachers(parents), split, kept)
    state = request.store.folder and request.store.folder / "weights.pt"
    compares = _compares_targets(loop, first)
    choice = saved_choice(state) or choose_start(loop, _other_starts(request, own), state, compares_targets=compares)
    loop.schedule.spend(time.monotonic() - begin)
    history = loop.run("weights", state, request.progress.track)
    start, reached = choice.start, min(history.excess)
    if choice.best_loss < reached:  # a start that was left, or an earlier state, is better than the end of the training
        start, reached = choice.best, choice.best_loss
        history = replace(history, best=choice.best_steps)
        fused.load_state_dict(choice.best_weights[0])
    if not history.best:
        start = start.removesuffix(PREDICTIONS_ONLY)
    untrained = choice.untrained[FITTED]
    if reached >= untrained - MIN_GAIN * abs(untrained) and _has_time(request.learning, begin):
        start, reached, history = FITTED, untrained, replace(history, best=0)
        request.record.clear()  # what training gained is less than what a fit to all samples can gain
        again = list(first_samples(request.batches, MAX_FITTED_SAMPLES))
        fused = fitted_models(request, again, request.store.of(part="again", samples=MAX_FITTED_SAMPLES))[0]
    compared = {name: loss for name, loss in choice.losses.items() if isfinite(loss)}
    found = {"start": start, "starts": compared, "reached": reached}
    request.record["learned_weights"] = asdict(history) | found
    return fused


def _taught_new_base(request: MergeRequest) -> PreTrainedModel:
    """Train a new base of other widths than the base to predict what the tuned model predicts."""
    assert request.carry is not None
    new_base = request.anchor.model
    taught = with_tensors(new_base, request.parents[0])
    split = split_with_answers(taught, request.batches, "weights")
    kept = split_with_answers(taught, request.carry.kept, "weights") if request.carry.kept else None
    loop = _distillation(request, taught, request.teachers([new_base] * len(request.parents)), split, kept)
    state = request.store.folder and request.store.folder / "weights.pt"
    history = loop.run("weights", state, request.progress.track)
    request.record["learned_weights"] = asdict(history) | {
        "start": NEW_BASE,
        "starts": {NEW_BASE: history.excess[0]},
    }
    return taught


def _other_starts(request: MergeRequest, parents: Sequence[PreTrainedModel]) -> dict[str, PreTrainedModel]:
    """Return the models that training may start from beside the fitted layers, by name.

    Args:
        parents: the parents in the shape of the fused model.
    """
    if request.carry is not None:
        return {NEW_BASE: parents[0]}
    starts = {f"model {number}": parent for number, parent in enumerate(parents, 1)}
    if request.base is not None:
        starts |= {name: with_tensors(request.anchor.model, MERGE_METHODS[name](request)) for name in BASE_STARTS}
    return starts


def _compares_targets(loop: WeightDistillation, batch: Batch) -> bool:
    """Return whether predictions alone may teach more than streams do: not for images, or texts with masked tokens."""
    causal = not is_labeled_per_sample(batch) and not is_masked(loop.fused, batch)
    return causal and bool(loop.matched_names)


def _distillation(
    request: MergeRequest,
    fused: PreTrainedModel,
    teachers: Sequence[PreTrainedModel],
    split: BatchSplit,
    kept: BatchSplit | None,
) -> WeightDistillation:
    """Return the training of the weights of `fused`."""
    options, untouched = request.learning, request.untouched
    weights, seed, streams = request.weights, request.seed, not request.originals
    if request.carry is None:
        return WeightDistillation(
            fused, teachers, weights, split, options, request.weighting, untouched, seed, streams=streams
        )
    answers = request.carry.keeps_answers
    return CarryDistillation(fused, teachers, weights, split, kept, options, answers, untouched, seed, streams)


def _has_time(learning: LearningOptions, begin: float) -> bool:
    """Return whether less time has passed than merging may take. With a number of steps, there is no limit."""
    minutes = learning.minutes if learning.trains else QUICK_MINUTES
    return learning.steps is not None or seconds_since(begin) < 60 * minutes


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
