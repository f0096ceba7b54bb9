"""Tokenize samples that are more than one text: words, pairs of texts, sources and targets."""

from typing import Any

import torch
from transformers import BatchEncoding, PreTrainedConfig

from transfuse.data.texts import MAX_LENGTH, max_tokens
from transfuse.errors import CheckpointError, ConfigError


def encode(tokenizer: Any, config: PreTrainedConfig, *texts: Any, **settings: Any) -> BatchEncoding:
    """Return the encoding of a batch, padded at the end and cut to what the model takes.

    Args:
        texts: the texts, and those that follow them if they are pairs.
        settings: further arguments of the tokenizer.

    Raises:
        ConfigError: the tokenizer has no padding token.
        CheckpointError: the texts cannot be tokenized, or a token id exceeds the model's vocabulary.
    """
    if tokenizer.pad_token is None:
        raise ConfigError("texts of several lengths need a tokenizer with a padding token; this one has none")
    length = min(max_tokens(config) or MAX_LENGTH, tokenizer.model_max_length, MAX_LENGTH)
    defaults = {"padding": True, "padding_side": "right", "truncation": True, "max_length": int(length)}
    try:
        encoding: BatchEncoding = tokenizer(*texts, return_tensors="pt", **(defaults | settings))
    except Exception as error:  # settings in a tokenizer's files can cause any error
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"the tokenizer cannot prepare texts: {reason}") from error
    encoding["input_ids"] = encoding["input_ids"].to(torch.long)
    largest = int(encoding["input_ids"].max()) if encoding["input_ids"].numel() else 0
    if largest >= config.vocab_size:
        raise CheckpointError(
            f"the tokenizer gives token {largest}, but the model has {config.vocab_size} embeddings; use the tokenizer"
            " that the model was trained with"
        )
    return encoding


def require_offsets(tokenizer: Any, what: str) -> None:
    """Raise `ConfigError` if a tokenizer does not know which part of a text each token is.

    Args:
        what: what needs to know it, for the message.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise ConfigError(f"{what} need a tokenizer that knows the places of its tokens; save a fast tokenizer")
