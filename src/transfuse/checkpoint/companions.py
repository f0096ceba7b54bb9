"""The names of the files beside the weights of a checkpoint that are copied with a model."""

import os
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from transfuse.base.unique_json import read_json

CONFIG, RECORD, CARD = "config.json", "transfuse.json", "README.md"
COMPANION_PATTERNS = (
    "preprocessor_config.json",
    "processor_config.json",
    "image_processor_config.json",
    "video_preprocessor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "normalizer.json",
    "vocab.json",
    "vocab.txt",
    "vocab.bpe",
    "merges.txt",
    "bpe.codes",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "sentencepiece.model",
    "spm.model",
    "source.spm",
    "target.spm",
    "tekken.json",
    "chat_template.json",
    "chat_template.jinja",
    "additional_chat_templates/*.jinja",
    "generation_config.json",
)
EXTRA_PATTERNS = (
    "*.tiktoken",
    "tokenizer.model.v*",
    "LICENSE*",
    "NOTICE*",
)  # copied; save_pretrained has no such names
SENTENCE_PATTERNS = ("modules.json", "config_sentence_transformers.json", "sentence_*_config.json")
NEVER = (".py", ".safetensors", ".bin", ".pt", ".pth")  # code or weights, by whatever name
HUB_PATTERNS = (
    *COMPANION_PATTERNS,
    *EXTRA_PATTERNS,
    *SENTENCE_PATTERNS,
    f"*/{CONFIG}",
)  # what is fetched from the hub beside weights and config.json

_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
_INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")


def companion_files(folder: Path) -> list[str]:
    """Return the files in a model's folder that go with it, but for those of sentence-transformers."""
    found = {
        file for pattern in (*COMPANION_PATTERNS, *EXTRA_PATTERNS) for file in folder.glob(pattern) if file.is_file()
    }
    return sorted(file.relative_to(folder).as_posix() for file in found if file.suffix not in NEVER)


def matches_any(name: str, patterns: Sequence[str]) -> bool:
    """Tell whether a name is one of those that patterns describe."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def weight_names(folder: Path) -> set[str]:
    """Return the names that save_pretrained gives to weights: one file, an index, and what that lists."""
    names = {name for name in (*_WEIGHTS, *_INDEXES) if os.path.lexists(folder / name)}
    for index in names.intersection(_INDEXES):
        try:
            listed = read_json(folder / index)["weight_map"].values()
            names |= {name for name in listed if isinstance(name, str) and name.endswith((".safetensors", ".bin"))}
        except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError):
            continue
    return names
