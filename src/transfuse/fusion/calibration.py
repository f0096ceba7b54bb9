"""Prepare the calibration samples of a fusion, and decide what units are matched on."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from transformers import PreTrainedModel

from transfuse.alignment.flow.policy import WEIGHTED
from transfuse.alignment.flow.sample_filter import low_loss_samples
from transfuse.alignment.interface import AlignContext
from transfuse.base.batch import Batch, batch_bytes
from transfuse.base.budget import cache_bytes, check_sample, samples_at_once
from transfuse.config.literals import MatchOn
from transfuse.config.options import Options
from transfuse.data.lazy_batches import LazyBatches
from transfuse.data.samples import Samples, load_samples
from transfuse.data.splits import CALIBRATION
from transfuse.data.tasks import model_preparer, task, with_model_ids
from transfuse.distillation.validation import split_with_answers
from transfuse.errors import ConfigError
from transfuse.fusion.inputs import Model
from transfuse.network.model import Network


def calibrate(
    networks: Sequence[Network], anchor: Model, data: Any, options: Options, processor: Any = None
) -> AlignContext:
    """Return what an alignment needs: the match_on to match units on, and the prepared batches for it.

    Raises:
        DataError: samples that the models do not take, or too few to hold some out where maps or weights are trained.
    """
    match_on = resolve_match_on(options, data)
    flow = options.flow
    looks = options.align != "none" and (match_on != "weights" or options.flow.policy in WEIGHTED)
    if data is None or not (looks or options.merging(True) != "mean" or options.align == "learned"):
        return AlignContext(match_on, (), flow, options.groups)
    samples = data if isinstance(data, Samples) else load_samples(data, CALIBRATION)
    model = networks[0].model
    if options.augment != "none" and samples.image is None:
        raise ConfigError("augment: only images can be augmented; leave it out")
    if options.needs_labels():
        samples = with_model_ids(model.config, task(type(model).__name__).labeled(samples))
    agree_on_padding(networks)
    batches = _batches(samples, networks, anchor, options, processor)
    if options.learns:
        split_with_answers(model, batches, "maps" if options.align == "learned" else "weights")
    return AlignContext(match_on, batches, flow, options.groups)


def _batches(
    samples: Samples, networks: Sequence[Network], anchor: Model, options: Options, processor: Any
) -> Sequence[Batch]:
    """Draw and prepare the samples; those that are passed over once stay unprepared where they would fill memory."""
    count = options.sample_count()
    if options.flow.max_loss is not None:
        drawn = prepare(samples.shuffled(options.seed), networks[0].model, anchor, options, processor)
        return low_loss_samples([network.model for network in networks], drawn, options.flow.max_loss, count)
    drawn = prepare(samples.take(count, options.seed), networks[0].model, anchor, options, processor)
    once = samples.image is not None and options.merging(True) == "mean" and options.align != "learned"
    return drawn if once and len(drawn) * batch_bytes(drawn[0]) > cache_bytes("prepared samples") else list(drawn)


def agree_on_padding(networks: Sequence[Network]) -> None:
    """Give the anchor's padding token to sources without one, since decoders that classify need it."""
    pad = getattr(networks[0].model.config, "pad_token_id", None)
    for network in networks[1:] if pad is not None else ():
        if getattr(network.model.config, "pad_token_id", None) is None:
            network.model.config.pad_token_id = pad


def resolve_match_on(options: Options, data: Any) -> MatchOn:
    """Return what `auto` stands for.

    Units are matched on weights without data, or where layers are fitted anyway; else flow matches on activations,
    exact on both.
    """
    if options.match_on != "auto":
        return options.match_on
    if options.align == "flow":
        return "weights" if data is None else "activations"
    return "weights" if data is None or options.merging(True) != "mean" else "both"


def prepare(
    samples: Samples, model: PreTrainedModel, given: Model, options: Options, processor: Any = None
) -> LazyBatches:
    """Return batches on the model's device, made by `processor` or else by the checkpoint's own.

    Where samples are long, a batch has fewer of them than `options.batch_size`.
    """
    preparer = model_preparer(given, model, processor)
    chosen = task(type(model).__name__).samples(samples)
    example = preparer(chosen.inputs([chosen.longest_index()]))
    check_sample(model, example)
    count = samples_at_once(model, example, options.batch_size)
    return replace(chosen.lazy_batches(preparer, count), device=model.device)
