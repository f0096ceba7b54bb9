"""Learned weights: the choice of a start, the training, and what is kept of it."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from math import isfinite
from typing import Any

import torch
from transformers import PreTrainedModel

from transfuse.base.batch import Batch, batch_size, first_samples, is_labeled_per_sample
from transfuse.base.distributed import process_group, seconds_since
from transfuse.base.lazy import Tensors
from transfuse.checkpoint.record.outcome import PARENT
from transfuse.config.literals import FITTED_LAYERS, LearningOptions
from transfuse.data.sample_budget import QUICK_MINUTES
from transfuse.distillation.text_variants import is_masked
from transfuse.distillation.validation import BatchSplit, split_with_answers
from transfuse.merging.request import MergeRequest, aligned_parents, fitted_models
from transfuse.merging.training.learned_carry import CarryDistillation
from transfuse.merging.training.learned_weights import WeightDistillation
from transfuse.merging.training.starts import PREDICTIONS_ONLY, choose_start, saved_choice
from transfuse.network.model import with_tensors
from transfuse.network.output_losses import output_loss

MAX_FITTED_SAMPLES = 2000  # largest number of samples that layers are fitted to, where training may follow
MIN_START_SAMPLES = 500  # the same where training follows, if they take more than a share of its time
START_SHARE = 0.15  # of the time for training, which fitting its start may take beyond that
NEW_BASE = "new base"  # from which training may start where a fine-tune is carried
MIN_GAIN = 0.02  # least share of the loss of fitted layers, against the parents', that training has to remove
FIT_PASSES = 7  # passes of all parents over the samples that take as long as fitting (benchmarks/fuse.py)


def learn_weights(request: MergeRequest, base_merges: Mapping[str, Callable[[], Tensors]]) -> PreTrainedModel:
    """Return the fused model with learned weights, or with fitted layers if training gains too little.

    Args:
        base_merges: merges of task vectors that training may start from, by name.
    """
    if request.carry is not None and request.originals:
        return _taught_new_base(request)
    begin = time.monotonic()
    fused, found, untrained = _trained(request, base_merges)
    if found["reached"] >= untrained - MIN_GAIN * abs(untrained) and _has_time(request.learning, begin):
        found |= {"start": FITTED_LAYERS, "reached": untrained, "best": 0, "refitted": True}
        request.record.clear()  # what training gained is less than what a fit to all samples can gain
        samples = list(first_samples(request.batches, MAX_FITTED_SAMPLES))
        store = request.store.of(part="again", samples=MAX_FITTED_SAMPLES)
        del fused  # before another one takes as much memory
        fused = fitted_models(request, samples, store)[0]
    request.record["learned_weights"] = found
    return fused


def _trained(
    request: MergeRequest, base_merges: Mapping[str, Callable[[], Tensors]]
) -> tuple[PreTrainedModel, dict[str, Any], float]:
    """Return the trained model, the entry for `transfuse.json`, and the loss of the fitted layers."""
    begin = time.monotonic()
    parents = aligned_parents(request)
    split = split_with_answers(parents[0], request.batches, "weights")
    first = split[0][0]
    count = _start_samples(request.learning, parents, first)
    samples = _to_fit(split, count)
    carry, kept = request.carry, None
    if carry is not None and carry.kept:
        kept = split_with_answers(parents[0], carry.kept, "weights")
        carry = replace(carry, kept=_to_fit(kept, count))
    store = request.store.of(part="to learn from", samples=count)
    fused, own = fitted_models(replace(request, carry=carry), samples, store, parents)
    loop = _distillation(request, fused, request.teachers(parents), split, kept)
    state = request.store.file("weights.pt")
    compares = _compares_targets(loop, first)
    choice = saved_choice(state) or choose_start(
        loop, _other_starts(request, own, base_merges), state, compares_targets=compares
    )
    loop.schedule.spend(time.monotonic() - begin)
    history = loop.run("weights", state, request.progress.track)
    start, reached = choice.start, min(history.excess)
    if choice.best_loss < reached:  # a start that was left, or an earlier state, is better than the end of the training
        start, reached = choice.best, choice.best_loss
        history = replace(history, best=choice.best_steps)
        fused.load_state_dict(choice.best_weights[0])
    if not history.best:
        start = start.removesuffix(PREDICTIONS_ONLY)
    compared = {name: loss for name, loss in choice.losses.items() if isfinite(loss)}
    found = asdict(history) | {"start": start, "starts": compared, "reached": reached}
    return fused, found, choice.untrained[FITTED_LAYERS]


def _to_fit(split: BatchSplit, count: int) -> list[Batch]:
    """Return the first training samples, or both parts if there is only one, since a fit validates on another."""
    train, validation = split
    return list(first_samples(train, count)) if sum(map(batch_size, train)) > 1 else [*train, *validation]


def _taught_new_base(request: MergeRequest) -> PreTrainedModel:
    """Train a new base of other widths than the base to predict what the tuned model predicts."""
    assert request.carry is not None
    new_base = request.anchor.model
    taught = with_tensors(new_base, request.parents[0])
    split = split_with_answers(taught, request.batches, "weights")
    kept = split_with_answers(taught, request.carry.kept, "weights") if request.carry.kept else None
    loop = _distillation(request, taught, request.teachers([new_base] * len(request.parents)), split, kept)
    state = request.store.file("weights.pt")
    history = loop.run("weights", state, request.progress.track)
    request.record["learned_weights"] = asdict(history) | {
        "start": NEW_BASE,
        "starts": {NEW_BASE: history.excess[0]},
    }
    return taught


def _other_starts(
    request: MergeRequest, parents: Sequence[PreTrainedModel], base_merges: Mapping[str, Callable[[], Tensors]]
) -> dict[str, PreTrainedModel]:
    """Return the models that training may start from besides the fitted layers, by name.

    Args:
        parents: the parents in the shape of the fused model.
        base_merges: merges of task vectors, by name.
    """
    if request.carry is not None:
        return {NEW_BASE: parents[0]}
    starts = {PARENT.format(number): parent for number, parent in enumerate(parents, 1)}
    return starts | {name: with_tensors(request.anchor.model, merge()) for name, merge in base_merges.items()}


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
