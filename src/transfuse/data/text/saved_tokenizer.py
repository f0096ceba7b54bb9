"""The tokenizer that is saved beside a model."""

from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from transfuse.checkpoint.reading.sentences import longest_text
from transfuse.errors import CheckpointError, in_short

ANY_TOKENIZER = ("tokenizer*", "vocab*", "spiece*", "sentencepiece*", "spm*")


def load_tokenizer(checkpoint: str | Path) -> Any:
    """Return the tokenizer saved in `checkpoint`; code in it is never run, and the Hub is not queried.

    It cuts texts where sentence-transformers does, if its files are there.

    Raises:
        CheckpointError: there is no tokenizer, or it cannot be read.
    """
    folder = Path(checkpoint)
    if not has_tokenizer(folder):
        raise CheckpointError(f"{folder}: has no tokenizer; save the one that the model was trained with beside it")
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    except Exception as error:
        raise CheckpointError(f"{folder}: its tokenizer cannot be loaded: {in_short(error)}") from error
    if not isinstance(tokenizer.model_max_length, int | float) or not tokenizer.model_max_length >= 1:
        raise CheckpointError(f"{folder}: model_max_length in tokenizer_config.json should be a number of tokens")
    if (longest := longest_text(folder)) is not None:
        tokenizer.model_max_length = min(tokenizer.model_max_length, longest)
    return tokenizer


def has_tokenizer(folder: Path) -> bool:
    """Return whether a tokenizer was saved in a folder."""
    return any(any(folder.glob(pattern)) for pattern in ANY_TOKENIZER)


def vocabulary(folder: Path) -> dict[str, int] | None:
    """Return the ids of all tokens of the tokenizer saved in a folder; None if there is no tokenizer."""
    return load_tokenizer(folder).get_vocab() if has_tokenizer(folder) else None
