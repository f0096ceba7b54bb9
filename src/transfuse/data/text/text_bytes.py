"""The bytes of a text that each token stands for, by which losses of different tokenizers are comparable."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

NO_TEXT = -1  # bytes of a token that is not part of the text


def knows_places(tokenizer: Any) -> bool:
    """Return whether a tokenizer tells which part of a text each token is."""
    return bool(getattr(tokenizer, "is_fast", False))


def token_places(tokenizer: Any, texts: Sequence[str], tokens: int) -> Int[Tensor, "text token 2"]:
    """Return the first character of each token of each text, and the one after its last; 0 beyond the text.

    Args:
        tokens: number of tokens to which texts are cut or filled.
    """
    rows = tokenizer(list(texts), truncation=True, max_length=tokens, return_offsets_mapping=True)["offset_mapping"]
    places = torch.zeros(len(texts), tokens, 2, dtype=torch.long)
    for row, spans in enumerate(rows):
        places[row, : len(spans)] = torch.tensor(spans, dtype=torch.long).reshape(-1, 2)
    return places


def bytes_of_tokens(
    texts: Sequence[str],
    contexts: Sequence[int],
    places: Int[Tensor, "text token 2"],
    is_text: Bool[Tensor, "text token"],
) -> Int[Tensor, "text token"]:
    """Return how many bytes of a text, in UTF-8, each token adds to those of the tokens before it.

    Spaces between two tokens belong to the second one, and spaces at the end of a text to its last token. If a
    character has several tokens, the first of them has all its bytes; so all tokens of the first character of a text
    have `NO_TEXT` bytes, because nothing predicts the first one.

    Args:
        contexts: number of characters at the start of each text that do not count.
        places: what `token_places` returns.
        is_text: which tokens are parts of the text; others, such as the end-of-text token, have `NO_TEXT` bytes.
    """
    counts = torch.full(is_text.shape, NO_TEXT, dtype=torch.long)
    for row, (text, context) in enumerate(zip(texts, contexts, strict=True)):
        before = _bytes_before(text)
        ends = np.maximum.accumulate(np.maximum(places[row, :, 1].numpy(), context))
        known = is_text[row].nonzero().flatten()
        if not text[ends[-1] :].strip() and len(known):
            ends[known[-1] :] = len(text)
        added = np.diff(before[np.concatenate(([context], ends))])
        counts[row, known] = torch.from_numpy(added)[known]
        counts[row, torch.from_numpy(ends == ends[0])] = NO_TEXT  # nothing predicts the first token
    return counts


def special_ids(tokenizer: Any) -> Int[Tensor, " kind"]:
    """Return the ids of special tokens, without that of unknown words, which stands for a part of the text."""
    ids = [tokenizer.convert_tokens_to_ids(token) for token in _special_tokens(tokenizer)]
    return torch.tensor(sorted({index for index in ids if index is not None}), dtype=torch.long)


def _special_tokens(tokenizer: Any) -> list[str]:
    unknown = tokenizer.unk_token
    named = [tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token, tokenizer.sep_token, tokenizer.cls_token]
    return [token for token in tokenizer.all_special_tokens if token != unknown or token in named]


def _bytes_before(text: str) -> Any:
    """Return how many bytes stand before each character of a text and before its end."""
    points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    sizes = 1 + (points >= 0x80).astype(np.int64) + (points >= 0x800) + (points >= 0x10000)
    return np.concatenate(([0], sizes.cumsum()))
