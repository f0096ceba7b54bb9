"""From texts to the tensors a language model takes, by the checkpoint's own tokenizer."""

import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import AutoTokenizer, DataCollatorForLanguageModeling, PreTrainedConfig

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
    """
    most = min(length or tokenizer.model_max_length, tokenizer.model_max_length)

    def prepare(texts: list[Any]) -> dict[str, Tensor]:
        return dict(tokenizer(texts, padding=True, truncation=True, max_length=most, return_tensors="pt"))

    return prepare


def masked_preparer(tokenizer: Any, length: int | None = None) -> Callable[[list[Any]], dict[str, Tensor]]:
    """The same with tokens hidden as BERT was trained, and `labels` [batch, token]: the hidden ones, else `MISSING`.

    What is hidden depends on the texts of the batch alone: every model is asked the same, and other batches are
    asked anew, as in the next epoch of a training.

    Raises:
        ConfigError: the tokenizer has no mask token.
    """
    if tokenizer.mask_token is None:
        raise ConfigError("a masked-language model needs a tokenizer with a mask token; this one has none")
    plain = text_preparer(tokenizer, length)

    def prepare(texts: list[Any]) -> dict[str, Tensor]:
        inputs = plain(texts)
        seed = zlib.crc32("\n".join(texts).encode())
        hide = DataCollatorForLanguageModeling(tokenizer, mlm_probability=MASKED, seed=seed)
        masked = hide([{"input_ids": ids} for ids in inputs["input_ids"]])
        return inputs | {"input_ids": masked["input_ids"], "labels": masked["labels"]}

    return prepare
