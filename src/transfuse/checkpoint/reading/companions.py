"""Names of the files beside the weights of a checkpoint, and which of them are copied with a model."""

import os
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from transfuse.base.unique_json import read_json

CONFIG = "config.json"
RECORD = "transfuse.json"
CARD = "README.md"
ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
ADAPTER_FILES = (ADAPTER_CONFIG, ADAPTER_WEIGHTS)
PROCESSOR_PATTERNS = (
    "preprocessor_config.json",
    "processor_config.json",
    "image_processor_config.json",
    "video_preprocessor_config.json",
)
TOKENIZER_PATTERNS = (
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
)
GENERATION = "generation_config.json"
COMPANION_PATTERNS = (*PROCESSOR_PATTERNS, *TOKENIZER_PATTERNS, GENERATION)
EXTRA_TOKENIZER_PATTERNS = ("*.tiktoken", "tokenizer.model.v*")
LICENSE_PATTERNS = ("LICENSE*", "NOTICE*")
EXTRA_PATTERNS = (*EXTRA_TOKENIZER_PATTERNS, *LICENSE_PATTERNS)  # copied, but not by save_pretrained
MODULES = "modules.json"  # of sentence-transformers
SENTENCE_PATTERNS = (MODULES, "config_sentence_transformers.json", "sentence_*_config.json")
PICKLE_SUFFIXES = (".bin", ".pt", ".pth")
WEIGHT_SUFFIXES = (".safetensors", *PICKLE_SUFFIXES)
CODE_OR_WEIGHTS = (".py", *WEIGHT_SUFFIXES)  # suffixes that are never copied
HUB_PATTERNS = (*COMPANION_PATTERNS, *EXTRA_PATTERNS, *SENTENCE_PATTERNS, f"*/{CONFIG}", CARD)
"""What is fetched from the Hub, besides weights and config.json."""

SAFETENSORS_NAMES = ("model.safetensors", "model.safetensors.index.json")
PICKLE_NAMES = ("pytorch_model.bin", "pytorch_model.bin.index.json")
INDEX_NAMES = (SAFETENSORS_NAMES[1], PICKLE_NAMES[1])


def companion_files(folder: Path) -> list[str]:
    """Return the files in a model's folder that are copied with it, except those of sentence-transformers."""
    patterns = (*COMPANION_PATTERNS, *EXTRA_PATTERNS)
    files = {file for pattern in patterns for file in folder.glob(pattern) if file.is_file()}
    return sorted(file.relative_to(folder).as_posix() for file in files if file.suffix not in CODE_OR_WEIGHTS)


def matches_any(name: str, patterns: Sequence[str]) -> bool:
    """Return whether a name matches one of the patterns."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def is_of_processor(name: str) -> bool:
    """Return whether a file is one of an image processor or a tokenizer, by its name."""
    return matches_any(name, (*PROCESSOR_PATTERNS, *TOKENIZER_PATTERNS, *EXTRA_TOKENIZER_PATTERNS))


def weight_names(folder: Path) -> set[str]:
    """Return the names that save_pretrained gives to weights: a single file, an index, and the files it lists."""
    names = {name for name in (*SAFETENSORS_NAMES, *PICKLE_NAMES) if os.path.lexists(folder / name)}
    for index in names.intersection(INDEX_NAMES):
        try:
            shards = read_json(folder / index)["weight_map"].values()
            names |= {name for name in shards if isinstance(name, str) and name.endswith((".safetensors", ".bin"))}
        except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError):
            continue
    return names
