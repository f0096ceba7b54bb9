"""Samples for sequence-to-sequence models: a source, such as a document, and its target, such as a summary."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from datasets import Translation
from jaxtyping import Int
from torch import Tensor
from transformers import PreTrainedConfig

from transfuse.base.batch import IGNORED_LABEL
from transfuse.checkpoint.reading.config_file import STARTS_WITH_LAST_TOKEN
from transfuse.data.column_kinds import is_string
from transfuse.data.parts import find_column, label_part, require_values, with_parts
from transfuse.data.samples import Prepare, Samples
from transfuse.data.text.conversations import as_text, instruction_columns
from transfuse.data.text.encoding import encode
from transfuse.data.text.messages import holds_messages
from transfuse.data.text.texts import text_preparer
from transfuse.errors import NoLabelsError, SpecError
from transfuse.network.families.nearest import LANGUAGE_MODEL

TRANSLATION = "translation"  # column of dicts from a language to a text
SOURCE_NAMES = ("input", "document", "article", "dialogue", "source", "question", "input_text", "src", "text", "inputs")
TARGET_NAMES = (
    "target",
    "output",
    "summary",
    "highlights",
    "answer",
    "target_text",
    "tgt",
    "targets",
    "response",
    "headline",
)


def with_sources(samples: Samples) -> Samples:
    """Return samples of sources, or of texts if there is no column of sources.

    The source of an instruction and its answer is the conversation, of which the preparer reads the instruction.
    """
    if translated := _translated(samples):
        return replace(translated, parts={"source": translated.parts["source"]})
    if instructions := _instructions(samples):
        return with_parts(samples.require_texts(), instructions.source, {"source": instructions.source})
    source = find_column(samples, SOURCE_NAMES, is_string)
    if samples.text is None and source is not None:
        return with_parts(samples, source, {"source": source})
    return samples.require_texts()


def with_targets(samples: Samples) -> Samples:
    """Return samples of sources with their targets.

    The column of targets may be the one that `--label-column` names, and that of sources the one that `--text-column`
    names. A column `translation` has dicts of two texts, the source first. Instructions and their answers are read as
    `with_sources` reads them.

    Raises:
        NoLabelsError: there are no targets.
        DataError: a sample has no target.
    """
    if translated := _translated(samples):
        require_values(translated, translated.parts["target"])
        return translated
    features = samples.dataset.features
    if instructions := _instructions(samples):
        target = label_part(samples, (instructions.target,), is_string, "texts")
        require_values(samples, target)
        return with_parts(samples, instructions.source, {"source": instructions.source, "target": target})
    target = label_part(samples, TARGET_NAMES, is_string, "texts")
    named = samples.text if samples.text is not None and is_string(features[samples.text]) else None
    source = find_column(samples, SOURCE_NAMES, is_string) if named in (None, target) else named
    if source is None or source == target:
        raise NoLabelsError(f"{samples.name}: no column of sources besides {target!r}; name it 'source'")
    require_values(samples, target)
    return with_parts(samples, source, {"source": source, "target": target})


def check_has_encoder(config: PreTrainedConfig) -> None:
    """Raise `SpecError` if a model has no encoder of its own for sources, such as a decoder that reads images too."""
    if not config.is_encoder_decoder:
        raise SpecError(
            f"{(config.architectures or [config.model_type])[0]}: is no encoder-decoder, so it reads no sources and"
            f" targets; only its language model can be measured and fine-tuned ({LANGUAGE_MODEL})"
        )


def sequence_preparer(tokenizer: Any, config: PreTrainedConfig) -> Prepare:
    """Return a function from texts, or rows of sources, to the inputs of an encoder and its decoder.

    If the rows have targets, these are the decoder's, with `labels` [batch, token]; otherwise the decoder gets the same
    text as the encoder.

    Raises:
        SpecError: the model is no encoder-decoder.
    """
    check_has_encoder(config)
    prepare_texts = text_preparer(tokenizer, config)

    def prepare(rows: list[Any]) -> Mapping[str, Tensor]:
        has_parts = isinstance(rows[0], dict)
        sources = [_source(tokenizer, row["source"]) if has_parts else as_text(tokenizer, row) for row in rows]
        if not has_parts or "target" not in rows[0]:
            inputs = prepare_texts(sources)
            return inputs | {"decoder_input_ids": _shifted(inputs, config)}
        targets = encode(tokenizer, config, text_target=[row["target"] or "" for row in rows])
        labels = targets["input_ids"].masked_fill(targets["attention_mask"] == 0, IGNORED_LABEL)
        source = encode(tokenizer, config, sources)
        return {
            "input_ids": source["input_ids"],
            "attention_mask": source["attention_mask"],
            "decoder_input_ids": _shifted(targets, config),
            "decoder_attention_mask": targets["attention_mask"],
            "labels": labels,
        }

    return prepare


def _shifted(inputs: Mapping[str, Tensor], config: PreTrainedConfig) -> Int[Tensor, "text token"]:
    """Return tokens behind the one that a decoder starts with: what it reads to predict these tokens."""
    ids = inputs["input_ids"]
    if config.model_type in STARTS_WITH_LAST_TOKEN:
        last = (inputs["attention_mask"].sum(1, keepdim=True) - 1).clamp_min(0)
        return torch.cat([ids.gather(1, last), ids[:, :-1]], 1)
    start = getattr(config, "decoder_start_token_id", None)
    first = (config.pad_token_id or 0) if start is None else start
    return torch.nn.functional.pad(ids[:, :-1], (1, 0), value=first)


def _source(tokenizer: Any, value: Any) -> str:
    """Return the source of a row: a text, or what comes before the answer in a conversation."""
    return as_text(tokenizer, value if isinstance(value, str) else value[:-1]) if value else ""


class _Columns(NamedTuple):
    source: str
    target: str


def _instructions(samples: Samples) -> _Columns | None:
    """Return the columns of conversations and of answers, if the samples are instructions and their answers."""
    columns = instruction_columns(samples.dataset)
    text = samples.text
    if columns is None or text is None or not holds_messages(samples.dataset.features[text]):
        return None
    return None if samples.chosen_label in columns.asked else _Columns(text, columns.answer)


def _translated(samples: Samples) -> Samples | None:
    """Return samples with the first text of each translation as their source, and the second as their target.

    Returns:
        None if there are no translations, or a column of targets was asked for.
    """
    dataset = samples.dataset
    feature = dataset.features.get(TRANSLATION)
    if isinstance(feature, dict | Translation):
        texts = feature if isinstance(feature, dict) else feature.flatten()
        languages = [language for language in getattr(feature, "languages", feature) if is_string(texts[language])]
        columns = [f"{TRANSLATION}.{language}" for language in languages[:2]]
        dataset = dataset.select_columns([TRANSLATION]).flatten().select_columns(columns)
    columns = [name for name in dataset.column_names if name.startswith(f"{TRANSLATION}.")]
    if samples.chosen_label is not None or len(columns) != 2:
        return None
    source, target = columns
    return with_parts(replace(samples, dataset=dataset), source, {"source": source, "target": target})
