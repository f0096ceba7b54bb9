"""From texts to the tensors a language model takes, by the checkpoint's own tokenizer."""

import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedConfig

from transfuse.batch import MISSING
from transfuse.errors import CheckpointError, ConfigError

MASKED = 0.15  # share of the tokens that a masked-language model has to guess (Devlin et al., 2019)


def load_tokenizer(checkpoint: str | Path, config: PreTrainedConfig) -> Any:
    """The tokenizer saved in `checkpoint`. Never runs code from it and never asks the Hub.

    Raises:
        CheckpointError: there is none, it cannot be read, or it has more tokens than the model knows.
    """
    folder = Path(checkpoint)
    if not has_tokenizer(folder):
        raise CheckpointError(f"{folder}: has no tokenizer; save the one that the model was trained with beside it")
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    except Exception as error:
        what = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{folder}: its tokenizer cannot be loaded: {what}") from error
    if len(tokenizer) > config.vocab_size:
        raise CheckpointError(
            f"{folder}: its tokenizer has {len(tokenizer)} tokens, the model {config.vocab_size}; use its own"
        )
    return tokenizer


def has_tokenizer(folder: Path) -> bool:
    """Whether a tokenizer was saved in a folder."""
    return any(folder.glob("tokenizer*")) or any(folder.glob("vocab*"))


def check_same_words(folders: Sequence[Path], configs: Sequence[PreTrainedConfig]) -> None:
    """Raise `CheckpointError` where two saved tokenizers give a word different numbers: its rows are not the same."""
    known = [(folder, config) for folder, config in zip(folders, configs, strict=True) if has_tokenizer(folder)]
    words = [load_tokenizer(*each).get_vocab() for each in known]
    for (folder, _), other in zip(known[1:], words[1:], strict=True):
        if other != words[0]:
            word = next(iter(sorted(dict(words[0].items() ^ other.items()))))
            raise CheckpointError(
                f"{folder}: its tokenizer numbers words otherwise than that of {known[0][0]} ({word!r} for one); fuse"
                " models of one vocabulary"
            )


def text_preparer(tokenizer: Any, length: int | None = None) -> Callable[[list[Any]], dict[str, Tensor]]:
    """A function from texts to `input_ids` and `attention_mask` [batch, token], padded to the longest.

    Args:
        length: most tokens that the model takes; what is longer is cut.

    Raises:
        ConfigError: the tokenizer cannot pad.
    """
    if tokenizer.pad_token is None:
        raise ConfigError("texts of several lengths need a tokenizer with a padding token; this one has none")
    most = min(length or tokenizer.model_max_length, tokenizer.model_max_length)

    def prepare(texts: list[Any]) -> dict[str, Tensor]:
        return dict(tokenizer(texts, padding=True, truncation=True, max_length=most, return_tensors="pt"))

    return prepare


def masked_preparer(
    tokenizer: Any, length: int | None = None, round_: Callable[[], int] = lambda: 0
) -> Callable[[list[Any]], dict[str, Tensor]]:
    """The same with words hidden as BERT was trained, and `labels` [batch, token]: the hidden ones, else `MISSING`.

    What is hidden of a text depends on it and on the round alone: every model is asked the same, in whatever batches.

    Args:
        round_: which round it is; in the next epoch of a training, other words are hidden.

    Raises:
        ConfigError: the tokenizer has no mask token.
    """
    if tokenizer.mask_token is None:
        raise ConfigError("a masked-language model needs a tokenizer with a mask token; this one has none")
    plain = text_preparer(tokenizer, length)
    special = torch.tensor(tokenizer.all_special_ids)

    def prepare(texts: list[Any]) -> dict[str, Tensor]:
        inputs, rows = plain(texts), []
        for text, ids in zip(texts, inputs["input_ids"], strict=True):
            generator = torch.Generator().manual_seed(zlib.crc32(f"{round_()} {text}".encode()))
            rows.append(hidden(ids, special, tokenizer.mask_token_id, len(tokenizer), generator))
        ids, labels = (torch.stack(each) for each in zip(*rows, strict=True))
        return inputs | {"input_ids": ids, "labels": labels}

    return prepare


def hidden(
    ids: Int[Tensor, "*batch token"], special: Int[Tensor, " kind"], mask: int, words: int, generator: torch.Generator
) -> tuple[Int[Tensor, "*batch token"], Int[Tensor, "*batch token"]]:
    """Ids with `MASKED` of the words hidden, one at least, and labels: the hidden ones, else `MISSING`.

    Of ten hidden words, eight are shown as `mask`, one as any of all `words`, and one as it is (Devlin et al., 2019).
    """
    chance = torch.rand(ids.shape, generator=generator).masked_fill(torch.isin(ids, special), 2.0)
    least = chance.amin(-1, keepdim=True)
    chosen = (chance < MASKED) | ((chance == least) & (least <= 1))
    fate = torch.rand(ids.shape, generator=generator)
    other = torch.randint(words, ids.shape, generator=generator)
    shown = torch.where(fate < 0.8, mask, torch.where(fate < 0.9, other, ids))
    return torch.where(chosen, shown, ids), torch.where(chosen, ids, MISSING)
