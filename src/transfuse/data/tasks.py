"""The task of a model, which decides the samples it takes, how they are prepared, and the metrics."""

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import MODEL_FOR_MASKED_LM_MAPPING, PreTrainedConfig

from transfuse.data.image.image_texts import load_both, pair_preparer, with_pairs
from transfuse.data.image.images import image_preparer, load_processor, required_size, with_equal_masks
from transfuse.data.labels.align_classes import align_classes
from transfuse.data.processor_settings import pair_settings, pixel_settings, token_settings
from transfuse.data.samples import Prepare, Samples
from transfuse.data.text.questions import question_preparer, with_answers, with_questions
from transfuse.data.text.saved_tokenizer import load_tokenizer
from transfuse.data.text.sequences import sequence_preparer, with_sources, with_targets
from transfuse.data.text.single_texts import with_single_texts
from transfuse.data.text.tagged_words import with_tags, with_words, word_preparer
from transfuse.data.text.texts import causal_preparer, masked_preparer, text_preparer, with_padding
from transfuse.errors import NoLabelsError, SpecError


@dataclass(frozen=True)
class Task:
    """How samples for a kind of model are read, prepared and measured.

    Attributes:
        processor: what prepares samples, in the words of messages: image processor or tokenizer.
        samples: returns data as calibration samples.
        labeled: returns data as evaluation samples; labels, if any, keep the ids of the data.
        load: loads the processor saved in a folder.
        preparer: makes a function from raw samples to a batch, given a processor and a configuration.
        settings: returns the settings of a processor by name, which are equal if two prepare samples alike.
        measures: names of the metrics to report (`evaluation.measures`).
        kind: what a model predicts, which decides how it is measured (`evaluation.kinds`).
    """

    processor: str
    samples: Callable[[Samples], Samples]
    labeled: Callable[[Samples], Samples]
    load: Callable[[Path], Any]
    preparer: Callable[[Any, PreTrainedConfig], Prepare]
    settings: Callable[[Any], Mapping[str, Any]]
    measures: tuple[str, ...] = ("accuracy", "loss")
    kind: str = "classes"


def with_model_ids(config: PreTrainedConfig, samples: Samples) -> Samples:
    """Return samples with the class ids of a model with this configuration, if they have labels."""
    return align_classes(samples, config.id2label or {}) if samples.label else samples


def _texts_without_labels(samples: Samples) -> Samples:
    """Drop the labels, because the labels of a language model are tokens of the text."""
    return replace(samples.require_texts(), label=None)


def _images(processor: Any, config: PreTrainedConfig) -> Prepare:
    vision = getattr(config, "vision_config", config)
    prepare = image_preparer(processor, vision.num_channels, required_size(vision))
    return with_equal_masks(prepare, config) if hasattr(config, "mask_ratio") else prepare


def _texts(tokenizer: Any, config: PreTrainedConfig) -> Prepare:
    """Return a function from texts to batches that are padded with the token that the model takes for padding.

    A classifying decoder reads the last token before the padding. A configuration without a padding token in the
    vocabulary gets the tokenizer's, or else its end-of-text token.
    """
    tokenizer = with_padding(tokenizer)
    tokenize = text_preparer(tokenizer, config)
    if config.pad_token_id is None or not 0 <= config.pad_token_id < config.vocab_size:
        config.pad_token_id = tokenizer.pad_token_id
    padding = config.pad_token_id

    def prepare(texts: list[Any]) -> Mapping[str, Tensor]:
        batch = tokenize(texts)
        if "attention_mask" in batch:
            batch["input_ids"] = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, padding)
        return batch

    return prepare


def check_causal(config: PreTrainedConfig) -> None:
    """Check that a language model sees no token that it predicts.

    Raises:
        SpecError: it is a bidirectional encoder with the head of a causal language model.
    """
    sees = f"{(config.architectures or [config.model_type])[0]}: sees the tokens that it predicts, because"
    if config.model_type in ("xlm", "flaubert") and not config.causal:
        raise SpecError(f"{sees} causal is false; set causal to true in config.json, or give a causal language model")
    if getattr(config, "is_decoder", None) is False and type(config) in MODEL_FOR_MASKED_LM_MAPPING:
        raise SpecError(
            f"{sees} is_decoder is false; set is_decoder to true in config.json, or name the ForMaskedLM class in"
            " architectures"
        )


def _next_tokens(tokenizer: Any, config: PreTrainedConfig) -> Prepare:
    check_causal(config)
    return causal_preparer(tokenizer, config)


def _next_tokens_and_bytes(tokenizer: Any, config: PreTrainedConfig) -> Prepare:
    check_causal(config)
    return causal_preparer(tokenizer, config, with_bytes=True)


def _no_labels(samples: Samples) -> Samples:
    """Raise `NoLabelsError`, because a model without a head predicts nothing that labels could be compared with."""
    raise NoLabelsError(f"{samples.name}: a model without a head has no labels")


PERPLEXITY = ("accuracy", "loss", "perplexity")
IMAGE_CLASSIFICATION = Task(
    "image processor",
    Samples.require_images,
    lambda samples: samples.require_images().require_labels(),
    load_processor,
    _images,
    pixel_settings,
)
TEXT_CLASSIFICATION = Task(
    "tokenizer",
    Samples.require_texts,
    lambda samples: samples.require_texts().require_labels(),
    load_tokenizer,
    _texts,
    token_settings,
)
MASKED_LM = Task(
    "tokenizer",
    _texts_without_labels,
    _texts_without_labels,
    load_tokenizer,
    masked_preparer,
    token_settings,
    PERPLEXITY,
    "tokens",
)
CAUSAL_LM = replace(MASKED_LM, preparer=_next_tokens)
MEASURED_CAUSAL_LM = replace(CAUSAL_LM, preparer=_next_tokens_and_bytes, measures=(*PERPLEXITY, "bits_per_byte"))
TOKEN_CLASSIFICATION = replace(
    TEXT_CLASSIFICATION,
    samples=with_words,
    labeled=with_tags,
    preparer=word_preparer,
    measures=("entity_f1", "accuracy", "loss"),
    kind="entities",
)
QUESTION_ANSWERING = replace(
    TEXT_CLASSIFICATION,
    samples=with_questions,
    labeled=with_answers,
    preparer=question_preparer,
    measures=("answer_f1", "exact_match", "loss"),
    kind="answers",
)
SEQUENCE_TO_SEQUENCE = replace(
    TEXT_CLASSIFICATION,
    samples=with_sources,
    labeled=with_targets,
    preparer=sequence_preparer,
    measures=PERPLEXITY,
    kind="tokens",
)
PAIRS = Task(
    "processor",
    with_pairs,
    with_pairs,
    load_both,
    pair_preparer,
    pair_settings,
    ("recall_1", "image_recall_1", "image_recall_5", "text_recall_1", "text_recall_5", "loss"),
    "pairs",
)

TASKS: dict[str, Task] = {
    "ForImageClassification": IMAGE_CLASSIFICATION,
    "ForImageClassificationWithTeacher": IMAGE_CLASSIFICATION,
    "ForSequenceClassification": TEXT_CLASSIFICATION,
    "ForMaskedLM": MASKED_LM,
    "BertForPreTraining": MASKED_LM,
    "ForCausalLM": CAUSAL_LM,
    "LMHeadModel": CAUSAL_LM,
    "ForTokenClassification": TOKEN_CLASSIFICATION,
    "ForQuestionAnswering": QUESTION_ANSWERING,
    "ForConditionalGeneration": SEQUENCE_TO_SEQUENCE,
    "MTModel": SEQUENCE_TO_SEQUENCE,
    "CLIPModel": PAIRS,
    "SiglipModel": PAIRS,
}
BARE_ENCODER_DECODERS = (  # classes without a head, whose two stacks read the same text
    *("T5Model", "MT5Model", "UMT5Model"),
    *("BartModel", "MBartModel", "PegasusModel", "M2M100Model"),
)
VISION_PREFIXES = (
    "ViT",
    "DeiT",
    "Dinov2",
    "DINOv3",
    "Beit",
    "CLIPVision",
    "SiglipVision",
)  # what the names of models that take images begin with


def task(architecture: str) -> Task:
    """Return the task of a transformers class, by its name.

    Raises:
        SpecError: the class takes several kinds of data, or no metric compares what it predicts.
    """
    if architecture.startswith("Whisper"):
        raise _only_by_weights(architecture, "takes sound, which no data can give")
    if architecture.startswith("XLNet"):
        raise SpecError(f"{architecture} pads texts at the start and predicts them in any order; give another model")
    if architecture == "ViTMAEForPreTraining":
        raise _only_by_weights(architecture, "predicts pixels, which no data can measure")
    for suffix, matching in TASKS.items():
        if architecture.endswith(suffix):
            return matching
    if re.search("For[A-Z]", architecture):
        raise _only_by_weights(architecture, "predicts what no data can measure or fit")
    takes_images = architecture.startswith(VISION_PREFIXES)
    reading = IMAGE_CLASSIFICATION if takes_images else replace(TEXT_CLASSIFICATION, samples=with_single_texts)
    if architecture in BARE_ENCODER_DECODERS:
        reading = SEQUENCE_TO_SEQUENCE
    return replace(reading, labeled=_no_labels, measures=("cosine", "distance"), kind="outputs")


def reads_texts(architecture: str) -> bool:
    """Return whether samples of a transformers class are texts, prepared by a tokenizer alone."""
    with suppress(SpecError):
        return task(architecture).processor == TEXT_CLASSIFICATION.processor
    return False


def _only_by_weights(architecture: str, why: str) -> SpecError:
    return SpecError(f"{architecture} {why}; only fusing by weights, without data, takes it")
