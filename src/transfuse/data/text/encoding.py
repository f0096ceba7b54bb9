"""Tokenize samples that are more than one text: words, pairs of texts, sources and targets."""

from typing import Any

import torch
from transformers import BatchEncoding, PreTrainedConfig

from transfuse.data.text.text_bytes import knows_places
from transfuse.data.text.texts import check_ids, require_padding, tokenized
from transfuse.errors import ConfigError


def encode(tokenizer: Any, config: PreTrainedConfig, *texts: Any, **settings: Any) -> BatchEncoding:
    """Return the encoding of a batch, padded at the end and cut to what the model takes.

    Args:
        texts: the texts, and those that follow them if they are pairs.
        settings: further arguments of the tokenizer; `text_target`: texts for the decoder, instead of `texts`.

    Raises:
        ConfigError: the tokenizer has no padding token.
        CheckpointError: the texts cannot be tokenized, or a token id exceeds the model's vocabulary.
    """
    require_padding(tokenizer)
    encoding = tokenized(tokenizer, config, *texts, **settings)
    encoding["input_ids"] = encoding["input_ids"].to(torch.long)
    for_decoder = getattr(config, "decoder_vocab_size", None) if "text_target" in settings else None
    check_ids(encoding["input_ids"], for_decoder or config.vocab_size)
    return encoding


def require_offsets(tokenizer: Any, what: str) -> None:
    """Raise `ConfigError` if a tokenizer does not know which part of a text each token is.

    Args:
        what: what needs to know it, for the message.
    """
    if not knows_places(tokenizer):
        raise ConfigError(f"{what} need a tokenizer that knows the places of its tokens; save a fast tokenizer")
