"""The nearest known name for one that a user wrote: another word for it, or one that is spelled alike."""

from collections.abc import Collection
from difflib import get_close_matches

SYNONYMS = {
    "base_model": "base",
    "bf16": "bfloat16",
    "bs": "batch_size",
    "dataset": "data",
    "evaluate": "eval",
    "fp16": "float16",
    "fp32": "float32",
    "fp64": "float64",
    "gpu": "device",
    "half": "float16",
    "lambda": "task_scale",
    "limit_samples": "samples",
    "linear": "mean",
    "lr": "learning_rate",
    "max_steps": "steps",
    "merge": "fuse",
    "normalize": "task_weights",
    "num_train_epochs": "epochs",
    "out": "output",
    "output_dir": "output",
    "overwrite_output_dir": "overwrite",
    "train": "finetune",
}
LONGEST = 40  # characters of a name that is compared; a file can hold one that would take forever


def nearest(name: str, known: Collection[str]) -> str | None:
    """Return the one of `known` that is most likely meant; dashes and underscores are alike."""
    spellings = {_plain(word): word for word in known}
    plain = _plain(name[:LONGEST])
    synonym = spellings.get(SYNONYMS.get(plain, ""))
    similar = get_close_matches(plain, spellings, n=1)
    return synonym or (spellings[similar[0]] if similar else None)


def _plain(name: str) -> str:
    return name.lstrip("-").replace("-", "_").lower()
