"""What a model does decides what samples it takes, who prepares them, and what they are measured by."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from transformers import PreTrainedConfig, PreTrainedModel

from transfuse.checkpoint.load import local_directory
from transfuse.data.images import image_preparer, load_processor
from transfuse.data.samples import Prepare, Samples
from transfuse.data.texts import (
    causal_preparer,
    load_tokenizer,
    masked_preparer,
    max_tokens,
    paired_preparer,
    text_preparer,
)
from transfuse.errors import ConfigError, SpecError


@dataclass(frozen=True)
class Task:
    """What goes with a kind of model.

    Attributes:
        processor: what users call the thing that prepares samples.
        samples: given data as calibration samples.
        labelled: given data as samples to measure on; labels, if any, still with the ids of the data.
        load: the processor saved in a folder.
        preparer: from a processor to a function from raw samples to a batch; the last argument tells which epoch it
            is, where that makes a difference.
        settings: what makes two processors do the same.
        measures: what of `Metrics` is told.
    """

    processor: str
    samples: Callable[[Samples], Samples]
    labelled: Callable[[Samples], Samples]
    load: Callable[[Path, PreTrainedConfig], Any]
    preparer: Callable[..., Prepare]
    settings: Callable[[Any], Any]
    measures: tuple[str, ...] = ("accuracy", "loss")


def with_model_ids(config: PreTrainedConfig, samples: Samples) -> Samples:
    """Labels, where there are any, in the ids of a model with this configuration."""
    return samples.aligned_to(config.id2label or {}) if samples.label else samples


def same_epoch() -> int:
    """Of what is not trained."""
    return 0


def _texts_alone(samples: Samples) -> Samples:
    """Without labels: the words that are hidden are the labels."""
    return replace(samples.require_texts(), label=None)


def _images(processor: Any, config: PreTrainedConfig, epoch: Callable[[], int] = same_epoch) -> Prepare:
    return image_preparer(processor, config.num_channels, getattr(config, "image_size", None))


def _padding(tokenizer: Any, config: PreTrainedConfig) -> Any:
    """A decoder that classifies looks for the last token before the padding, so both have to agree on what that is."""
    if config.pad_token_id is None and tokenizer.pad_token_id is not None:
        config.pad_token_id = tokenizer.pad_token_id
    return tokenizer


def _texts(tokenizer: Any, config: PreTrainedConfig, epoch: Callable[[], int] = same_epoch) -> Prepare:
    return text_preparer(_padding(tokenizer, config), max_tokens(config), config.vocab_size)


def _masked_texts(tokenizer: Any, config: PreTrainedConfig, epoch: Callable[[], int] = same_epoch) -> Prepare:
    return masked_preparer(tokenizer, max_tokens(config), epoch, config.vocab_size)


def _next_tokens(tokenizer: Any, config: PreTrainedConfig, epoch: Callable[[], int] = same_epoch) -> Prepare:
    return causal_preparer(tokenizer, max_tokens(config), config.vocab_size)


def _both_sides(tokenizer: Any, config: PreTrainedConfig, epoch: Callable[[], int] = same_epoch) -> Prepare:
    """A text for the encoder, and the same for the decoder."""
    start = getattr(config, "decoder_start_token_id", None)
    return paired_preparer(tokenizer, (config.pad_token_id or 0) if start is None else start, config.vocab_size)


def _unmeasured(samples: Samples) -> Samples:
    raise SpecError(NOT_MEASURED)


def _pixels(processor: Any) -> Any:
    """How pixels are made; names and types of the classes do not matter."""
    return {name: value for name, value in processor.to_dict().items() if not name.endswith("_type")}


def _vocabulary(tokenizer: Any) -> Any:
    """How texts become numbers, but for where they are cut and padded."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    return tokenizer.get_vocab(), str(getattr(backend, "normalizer", "")), str(getattr(backend, "pre_tokenizer", ""))


NOT_MEASURED = (
    "what this model answers cannot be measured: only image and text classifiers and language models can; give one of"
    " those"
)
PERPLEXITY = ("accuracy", "loss", "perplexity")
IMAGE_CLASSIFICATION = Task(
    "image processor",
    Samples.require_images,
    lambda samples: samples.require_images().require_labels(),
    load_processor,
    _images,
    _pixels,
)
TEXT_CLASSIFICATION = Task(
    "tokenizer",
    Samples.require_texts,
    lambda samples: samples.require_texts().require_labels(),
    load_tokenizer,
    _texts,
    _vocabulary,
)
MASKED_LM = Task("tokenizer", _texts_alone, _texts_alone, load_tokenizer, _masked_texts, _vocabulary, PERPLEXITY)
CAUSAL_LM = Task("tokenizer", _texts_alone, _texts_alone, load_tokenizer, _next_tokens, _vocabulary, PERPLEXITY)

TASKS: dict[str, Task] = {
    "ForImageClassification": IMAGE_CLASSIFICATION,
    "ForImageClassificationWithTeacher": IMAGE_CLASSIFICATION,
    "ForSequenceClassification": TEXT_CLASSIFICATION,
    "ForMaskedLM": MASKED_LM,
    "ForCausalLM": CAUSAL_LM,
    "LMHeadModel": CAUSAL_LM,
    "ForTokenClassification": replace(TEXT_CLASSIFICATION, labelled=_unmeasured),
    "ForQuestionAnswering": replace(TEXT_CLASSIFICATION, labelled=_unmeasured),
    "ForConditionalGeneration": replace(TEXT_CLASSIFICATION, preparer=_both_sides, labelled=_unmeasured),
}
VISION_PREFIXES = (
    "ViT",
    "DeiT",
    "Dinov2",
    "Beit",
    "CLIPVision",
)  # what the names of models that take images begin with


def task(architecture: str) -> Task:
    """The task of a transformers class, by its name. Raises `SpecError` for one that takes several kinds of data."""
    for ending, found in TASKS.items():
        if architecture.endswith(ending):
            return found
    if architecture in ("CLIPModel", "T5Model"):
        raise SpecError(f"{architecture} takes pairs, which --data cannot give; align it by weights, without --data")
    seen = architecture.startswith(VISION_PREFIXES)
    return replace(IMAGE_CLASSIFICATION if seen else TEXT_CLASSIFICATION, labelled=_unmeasured)


def check_measurable(config: PreTrainedConfig, architecture: str) -> None:
    """Raise `SpecError` for a model without a head, or with one that gives anything but one class of several."""
    if task(architecture).labelled is _unmeasured:
        raise SpecError(f"{architecture}: {NOT_MEASURED}")
    kind = getattr(config, "problem_type", None)
    if architecture.endswith("Classification") and (
        config.num_labels < 2 or kind not in (None, "single_label_classification")
    ):
        raise SpecError(
            f"{architecture} with {config.num_labels} labels ({kind or 'regression'}) does not choose one class of"
            " several, and only such classifiers can be measured"
        )


def model_processor(given: Any, model: PreTrainedModel, processor: Any = None) -> Any:
    """`processor` (an image processor, a tokenizer), or else the one saved with the checkpoint that was given.

    Raises:
        ConfigError: a loaded model, which has no processor, and none is given.
    """
    does = task(type(model).__name__)
    if processor is None and isinstance(given, PreTrainedModel):
        raise ConfigError(f"data: a loaded model has no {does.processor}; pass processor=..., or the model's path")
    return processor or does.load(local_directory(given, "allow"), model.config)


def model_preparer(given: Any, model: PreTrainedModel, processor: Any = None) -> Prepare:
    """Prepares samples by `model_processor`."""
    does = task(type(model).__name__)
    return does.preparer(model_processor(given, model, processor), model.config)
