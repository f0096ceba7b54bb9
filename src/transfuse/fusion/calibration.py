"""Prepare the calibration samples of a fusion, and decide whether units are matched on weights or activations."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from datasets import Dataset, DatasetDict
from transformers import PreTrainedModel

from transfuse.alignment.flow.policy import WEIGHTED
from transfuse.alignment.flow.sample_filter import low_loss_samples
from transfuse.alignment.interface import AlignContext
from transfuse.base.batch import Batch, batch_bytes
from transfuse.base.budget import cache_bytes
from transfuse.base.progress import Progress, silent
from transfuse.checkpoint.reading.load import Model
from transfuse.config.data_options import is_generated
from transfuse.config.literals import BY_WEIGHTS, MatchOn
from transfuse.config.options import Options
from transfuse.data.files.splits import CALIBRATION
from transfuse.data.load import open_samples
from transfuse.data.measured_tasks import UNTRAINABLE, labeled_task
from transfuse.data.prepare import draw, prepare, readable
from transfuse.data.sample_budget import SampleBudget
from transfuse.data.samples import Samples
from transfuse.data.tasks import SEQUENCE_TO_SEQUENCE, with_model_ids
from transfuse.data.text.blocks import in_blocks
from transfuse.distillation.validation import split_with_answers
from transfuse.errors import ConfigError, NoLabelsError
from transfuse.network.model import Network
from transfuse.network.token_ids import copy_padding_token


def opened(data: Any, options: Options) -> Any:
    """Return samples that are opened once, for the check of memory and for the fusion, if they are read."""
    if data is None or is_generated(data):
        return data
    read = not _is_named(data) or reads_samples(options, resolve_match_on(options, data))
    return open_samples(data, options, CALIBRATION) if read else data


def recorded(given: Any, data: Any) -> Any:
    """Return what the record names the samples by: as they were given, or else the opened or generated samples."""
    return given if _is_named(given) and not is_generated(given) else data


def _is_named(data: Any) -> bool:
    return isinstance(data, str | Path | Dataset | DatasetDict)


def calibrate(
    networks: Sequence[Network],
    anchor: Model,
    data: Any,
    options: Options,
    processor: Any = None,
    progress: Progress = silent,
) -> AlignContext:
    """Return what an alignment needs: whether to match on weights or activations, and the prepared batches.

    Args:
        networks: the models, the anchor first.
        anchor: the path or the loaded model of the anchor, which tells the processor.
        data: the calibration samples, or None.
        processor: prepares the samples; None: the processor in the anchor's directory.
        progress: is told about texts that were cut.

    Raises:
        ConfigError: `augment` is set and the samples are not images.
        DataError: the models cannot read the samples, or there are too few for a validation split where maps or
            weights are trained.
    """
    match_on = resolve_match_on(options, data)
    if data is None or not reads_samples(options, match_on):
        return AlignContext(match_on, (), options.flow, options.groups)
    samples = open_samples(data, options, CALIBRATION)
    model = networks[0].model
    if options.augment not in ("auto", "none") and samples.image is None:
        raise ConfigError("augment: only images can be augmented; leave it out")
    samples = _labeled(samples, model, options)
    count = sample_budget(options).drawn(samples, model, anchor, processor)
    if options.flow.max_loss is None:
        samples = draw(samples, count, model, anchor, options, processor, progress)
    else:  # samples are drawn by their losses
        samples = in_blocks(samples, model, anchor, processor, options, progress).shuffled(options.seed)
    batches = _batches(samples, count, networks, anchor, options, processor)
    if "learned" in (options.align, options.merge):
        split_with_answers(model, batches, "maps" if options.align == "learned" else "weights")
    return AlignContext(match_on, batches, options.flow, options.groups)


def _labeled(samples: Samples, model: PreTrainedModel, options: Options) -> Samples:
    """Return the samples as the model reads them, with labels if they are needed or say what a decoder should write.

    Raises:
        DataError: the model cannot read the samples, or labels are needed, and there are none.
    """
    model_task = labeled_task(type(model).__name__, model.config)
    if options.needs_labels():
        if model_task.kind in UNTRAINABLE:
            raise ConfigError(f"{type(model).__name__} has no labels; leave out the option that needs them")
        return with_model_ids(model.config, model_task.labeled(samples))
    if model_task is SEQUENCE_TO_SEQUENCE:
        with suppress(NoLabelsError):
            return model_task.labeled(samples)
    return readable(samples, model)


def sample_budget(options: Options) -> SampleBudget:
    """Return the number of samples that a fusion draws."""
    learns = not options.samples and options.merging(True) == "learned"
    return SampleBudget(options.sample_count(), options.learning() if learns else None, options.torch_device())


def reads_samples(options: Options, match_on: MatchOn) -> bool:
    """Return whether aligning or merging needs samples."""
    if options.align == "learned" or options.merging(True) not in BY_WEIGHTS:
        return True
    return options.align != "none" and (match_on != "weights" or options.flow.policy in WEIGHTED)


def _batches(
    samples: Samples, count: int, networks: Sequence[Network], anchor: Model, options: Options, processor: Any
) -> Sequence[Batch]:
    """Return the prepared samples; of all of them, those with low losses, at most `count`, if these are to be drawn.

    Images that are read only once and would fill the memory are prepared batch by batch when they are read.
    """
    model, *others = [network.model for network in networks]
    batches = prepare(samples, model, anchor, options, processor)
    copy_padding_token(model, others)
    if options.flow.max_loss is not None:
        return low_loss_samples([model, *others], batches, options.flow.max_loss, count)
    read_once = samples.image is not None and options.merging(True) == "mean" and options.align != "learned"
    too_large = len(batches) * batch_bytes(batches[0]) > cache_bytes("prepared samples")
    return batches if read_once and too_large else sample_budget(options).first(batches, model)


def resolve_match_on(options: Options, data: Any) -> MatchOn:
    """Return the value of `match_on`, with `auto` resolved.

    Without data, units are matched on weights. With data, flow matches on activations; the exact alignment matches on
    both, or on weights if layers are fitted afterward.
    """
    if options.match_on != "auto":
        return options.match_on
    if options.align == "flow":
        return "weights" if data is None else "activations"
    return "weights" if data is None or options.merging(True) != "mean" else "both"
