"""The names of the files beside the weights of a checkpoint that are copied with a model."""

import re
from pathlib import Path

from transfuse.io.strict import read_json

CONFIG, RECORD, CARD = "config.json", "transfuse.json", "README.md"
BESIDE = (
    "preprocessor_config.json", "processor_config.json", "image_processor_config.json",
    "video_preprocessor_config.json",
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "normalizer.json",
    "vocab.json", "vocab.txt", "merges.txt", "bpe.codes", "tokenizer.model", "spiece.model",
    "sentencepiece.bpe.model", "*.tiktoken",
    "chat_template.json", "chat_template.jinja", "additional_chat_templates/*.jinja", "generation_config.json",
)  # fmt: skip
SENTENCES = ("modules.json", "config_sentence_transformers.json", "sentence_*_config.json")
COMPANIONS = (*BESIDE, *SENTENCES, f"*/{CONFIG}")  # what is fetched from the hub beside weights and config.json

_WEIGHTS = re.compile(r"(model|pytorch_model)(-\d{5}-of-\d{5})?\.(safetensors|bin)")
_INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")


def beside(folder: Path) -> list[str]:
    """Return the files in a model's folder that go with it, but for those of sentence-transformers."""
    found = {file for pattern in BESIDE for file in folder.glob(pattern) if file.is_file()}
    return sorted(file.relative_to(folder).as_posix() for file in found)


def weights(folder: Path) -> set[str]:
    """Return the names in a model's folder that save_pretrained gives to weights, and those that an index lists."""
    names = {file.name for file in folder.iterdir() if _WEIGHTS.fullmatch(file.name) or file.name in _INDEXES}
    for index in names.intersection(_INDEXES):
        try:
            listed = read_json(folder / index)["weight_map"].values()
            names |= {name for name in listed if isinstance(name, str) and name.endswith((".safetensors", ".bin"))}
        except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError):
            continue
    return names
