"""Conversion of texts to the inputs of a language model, by the tokenizer of its checkpoint."""

import copy
import zlib
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import BatchEncoding, PreTrainedConfig

from transfuse.base.batch import IGNORED_LABEL
from transfuse.base.counted import counted
from transfuse.data.text.context import context_length, has_context
from transfuse.data.text.conversations import as_text
from transfuse.data.text.target_language import check_target_language
from transfuse.data.text.text_bytes import NO_TEXT, bytes_of_tokens, knows_places, special_ids, token_places
from transfuse.data.text.text_pairs import is_pair
from transfuse.errors import CheckpointError, ConfigError, in_short
from transfuse.network.token_ids import POSITIONS_AFTER_PADDING

MAX_LENGTH = 2**20  # tokens; truncation of tokenizers without a limit
MASK_RATE = 0.15  # share of tokens that a masked language model predicts (Devlin et al., 2019)

TextPreparer = Callable[[list[Any]], dict[str, Tensor]]
"""A function from texts to a batch."""


def max_tokens(config: PreTrainedConfig) -> int | None:
    """Return the largest number of tokens that a model takes, or None; RoBERTa counts positions from its padding on."""
    positions = getattr(config, "max_position_embeddings", None)
    return (
        positions - config.pad_token_id - 1 if positions and config.model_type in POSITIONS_AFTER_PADDING else positions
    )


def require_padding(tokenizer: Any) -> None:
    """Raise `ConfigError` if a tokenizer has no padding token."""
    if tokenizer.pad_token is None:
        name = f"{tokenizer.name_or_path}: its" if getattr(tokenizer, "name_or_path", "") else "the"
        raise ConfigError(f"{name} tokenizer has no padding token; set pad_token in tokenizer_config.json")


def with_padding(tokenizer: Any) -> Any:
    """Return a tokenizer, or a copy that pads with its end-of-text token if it has no padding token."""
    if tokenizer.pad_token is None:
        tokenizer = copy.deepcopy(tokenizer)
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def tokenized(tokenizer: Any, config: PreTrainedConfig, *texts: Any, **settings: Any) -> BatchEncoding:
    """Return the encoding of a batch, padded at the end and cut to what the model takes.

    SigLIP's texts are padded to that length, because it pools the last position. It reads padding like other tokens.
    Models without embeddings of two types of tokens get no `token_type_ids`, which GPT-2 would take for tokens.

    Args:
        texts: the texts, and those that follow them if they are pairs.
        settings: further arguments of the tokenizer.

    Raises:
        CheckpointError: the texts cannot be tokenized.
    """
    limit = int(min(max_tokens(config) or MAX_LENGTH, tokenizer.model_max_length, MAX_LENGTH))
    is_siglip = getattr(config, "model_type", None) == "siglip_text_model"
    padding = "max_length" if is_siglip else True
    defaults = {"padding": padding, "padding_side": "right", "truncation": True, "max_length": limit}
    try:
        encoding: BatchEncoding = tokenizer(*texts, return_tensors="pt", **(defaults | settings))
    except Exception as error:  # settings in a tokenizer's files can cause any error
        if "text_target" in settings:
            check_target_language(tokenizer)
        raise CheckpointError(f"the tokenizer cannot prepare texts: {in_short(error)}") from error
    if (getattr(config, "type_vocab_size", None) or 0) < 2:
        encoding.pop("token_type_ids", None)
    if is_siglip:
        encoding["attention_mask"] = torch.ones_like(encoding["input_ids"])
    return encoding


def check_ids(ids: Int[Tensor, "text token"], vocab_size: int) -> None:
    """Raise `CheckpointError` if a token id exceeds the number of tokens in the model's vocabulary."""
    largest = int(ids.max()) if ids.numel() else 0
    if largest >= vocab_size:
        raise CheckpointError(
            f"the tokenizer gives token {largest}, but the model has {counted(vocab_size, 'embedding')}; use the"
            " tokenizer that the model was trained with"
        )


def text_preparer(tokenizer: Any, config: PreTrainedConfig) -> TextPreparer:
    """Return a function from texts, pairs or conversations to `input_ids` and `attention_mask` [batch, token].

    Texts are padded at the end. Padding at the start would move the positions of the tokens. Longer texts than the
    model takes are truncated.

    Raises:
        ConfigError: the tokenizer has no padding token.
        CheckpointError: when the function is called, if texts cannot be tokenized or a token id exceeds the model's
            vocabulary.
    """
    require_padding(tokenizer)

    def prepare(texts: list[Any]) -> dict[str, Tensor]:
        pairs = bool(texts) and is_pair(texts[0])
        parts = zip(*texts, strict=True) if pairs else ([as_text(tokenizer, text) for text in texts],)
        batch = dict(tokenized(tokenizer, config, *map(list, parts)))
        if not batch["input_ids"].numel():  # empty texts are all padding, as they are beside longer ones
            padding = torch.full((len(texts), 1), tokenizer.pad_token_id)
            batch = {name: padding if name == "input_ids" else torch.zeros_like(padding) for name in batch}
        check_ids(batch["input_ids"], config.vocab_size)
        return batch

    return prepare


def masked_preparer(tokenizer: Any, config: PreTrainedConfig, epoch: Callable[[], int] = lambda: 0) -> TextPreparer:
    """Return a function that masks tokens as in BERT's training and adds `labels` [batch, token].

    Labels are the original ids of masked tokens, `IGNORED_LABEL` elsewhere. The mask of a text depends on the text and
    the epoch only, so that all models predict the same tokens in any batches.

    Args:
        epoch: returns the current epoch of training; each epoch masks other tokens.

    Raises:
        ConfigError: the tokenizer has no mask token, or no padding token.
        CheckpointError: when the function is called, as for `text_preparer`, or if the model has no mask token.
    """
    if tokenizer.mask_token is None:
        raise ConfigError("a masked-language model needs a tokenizer with a mask token; this one has none")
    tokenize = text_preparer(tokenizer, config)
    special = torch.tensor(tokenizer.all_special_ids)
    shown = min(len(tokenizer), config.vocab_size)  # a tokenizer may have tokens without an embedding

    def mask_row(text: str, row: Int[Tensor, " token"], count: int) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(zlib.crc32(f"{epoch()} {text}".encode()))
        # Random numbers are drawn for the text without its padding, so that longer texts beside it change nothing.
        masked, labels = mask_tokens(row[:count], special, tokenizer.mask_token_id, shown, generator)
        padding = row[count:]
        return torch.cat([masked, padding]), torch.cat([labels, torch.full_like(padding, IGNORED_LABEL)])

    def prepare(texts: list[Any]) -> dict[str, Tensor]:
        texts = [as_text(tokenizer, text) for text in texts]
        inputs = tokenize(texts)
        counts = inputs["attention_mask"].sum(1).tolist()
        rows = [mask_row(text, row, count) for text, row, count in zip(texts, inputs["input_ids"], counts, strict=True)]
        masked, labels = map(torch.stack, zip(*rows, strict=True))
        check_ids(masked, config.vocab_size)
        return inputs | {"input_ids": masked, "labels": labels}

    return prepare


def causal_preparer(tokenizer: Any, config: PreTrainedConfig, with_bytes: bool = False) -> TextPreparer:
    """Return a function that adds `labels` [batch, token]: the next token, or `IGNORED_LABEL` at the end of a text.

    The tokens of a context have no label. A tokenizer without a padding token pads with its end-of-text token; a causal
    model sees no padding at the end.

    Args:
        with_bytes: whether to add `labels_bytes` [batch, token], the bytes of text that each label stands for, or
            `NO_TEXT` (`data.text.text_bytes`). A tokenizer that does not know the places of its tokens adds none.
    """
    with_bytes = with_bytes and knows_places(tokenizer)
    tokenizer = with_padding(tokenizer)
    tokenize = text_preparer(tokenizer, config)
    special = special_ids(tokenizer)

    def prepare(texts: list[Any]) -> dict[str, Tensor]:
        written = [as_text(tokenizer, text) for text in texts]
        inputs = tokenize(written)
        measured = inputs["attention_mask"] > 0
        contexts = [context_length(text) for text in texts]
        places = None
        if with_bytes or any(map(has_context, texts)):
            places = token_places(tokenizer, written, measured.shape[1])
            starts = torch.tensor(contexts).unsqueeze(1)
            measured &= (places[:, :, 1] > starts) | (starts == 0)  # tokens that end after the context
        following = _next_of(inputs["input_ids"].masked_fill(~measured, IGNORED_LABEL), IGNORED_LABEL)
        if places is None or not with_bytes:
            return inputs | {"labels": following}
        is_text = (inputs["attention_mask"] > 0) & ~torch.isin(inputs["input_ids"], special)
        sizes = _next_of(bytes_of_tokens(written, contexts, places, is_text), NO_TEXT)
        return inputs | {"labels": following, "labels_bytes": sizes.masked_fill(following == IGNORED_LABEL, NO_TEXT)}

    return prepare


def _next_of(values: Int[Tensor, "text token"], end: int) -> Int[Tensor, "text token"]:
    """Return the value of the next token for every token, and `end` for the last."""
    return torch.nn.functional.pad(values[:, 1:], (0, 1), value=end)


def mask_tokens(
    ids: Int[Tensor, "*batch token"],
    special: Int[Tensor, " kind"],
    mask: int,
    vocab_size: int,
    generator: torch.Generator,
) -> tuple[Int[Tensor, "*batch token"], Int[Tensor, "*batch token"]]:
    """Mask each token with probability `MASK_RATE`, at least one per text, and return ids and labels.

    Labels are the original ids of masked tokens, `IGNORED_LABEL` elsewhere. Of the masked tokens, 80% become `mask`,
    10% a random token and 10% stay unchanged (Devlin et al., 2019).

    Args:
        special: ids of tokens that are never masked.
        mask: id of the mask token.
        vocab_size: number of tokens to draw random ones from.
    """
    chance = torch.rand(ids.shape, generator=generator).masked_fill(torch.isin(ids, special), 2.0)
    least = chance.amin(-1, keepdim=True)
    masked = (chance < MASK_RATE) | ((chance == least) & (least <= 1))
    replacement = torch.rand(ids.shape, generator=generator)
    random_ids = torch.randint(vocab_size, ids.shape, generator=generator)
    replaced = torch.where(replacement < 0.8, mask, torch.where(replacement < 0.9, random_ids, ids))
    return torch.where(masked, replaced, ids), torch.where(masked, ids, IGNORED_LABEL)
