"""Tiny models of every kind on disk, with a tokenizer of a few words, and data in the usual columns."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import (
    BertConfig,
    BertTokenizer,
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    PreTrainedModel,
    SiglipConfig,
    SiglipImageProcessorPil,
    SiglipModel,
)

NAMES, PLACES, THINGS = ("anna", "bert", "carl"), ("paris", "rome"), ("apples", "boats")
WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *NAMES, *PLACES, *THINGS, "sees", "in", "what", "who", "##s")
SENTENCES = [
    (NAMES[row % 3], THINGS[row // 3 % 2], PLACES[row // 6 % 2]) for row in range(24)
]  # who sees what, and where
SIZES: dict[str, Any] = {
    "vocab_size": len(WORDS), "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
    "intermediate_size": 24, "max_position_embeddings": 24, "initializer_range": 0.5,
}  # fmt: skip


def tokenizer() -> BertTokenizer:
    words = BertTokenizer(vocab={word: index for index, word in enumerate(WORDS)})
    words.model_max_length = 24
    return words


def bert(folder: Path, build: Callable[[BertConfig], PreTrainedModel], seed: int, **changes: Any) -> Path:
    """A random model, saved with its tokenizer."""
    torch.manual_seed(seed)
    build(BertConfig(**SIZES | changes)).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def clip(folder: Path, seed: int) -> Path:
    """A random model of images and texts, saved with both of its processors."""
    torch.manual_seed(seed)
    sizes = {name: value for name, value in SIZES.items() if name not in ("vocab_size", "max_position_embeddings")}
    words = {"vocab_size": len(WORDS), "max_position_embeddings": 24}
    words |= {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
    vision = sizes | {"image_size": 8, "patch_size": 4}
    CLIPModel(CLIPConfig(text_config=sizes | words, vision_config=vision, projection_dim=8)).save_pretrained(folder)
    size = {"height": 8, "width": 8}
    CLIPImageProcessorPil(size=size, crop_size=size, do_center_crop=False).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def siglip(folder: Path, seed: int) -> Path:
    """The same with a sigmoid of each pair."""
    torch.manual_seed(seed)
    sizes = {name: value for name, value in SIZES.items() if name not in ("vocab_size", "max_position_embeddings")}
    words = {"vocab_size": len(WORDS), "max_position_embeddings": 24, "pad_token_id": 0, "projection_size": 8}
    vision = sizes | {"image_size": 8, "patch_size": 4, "hidden_size": 8, "intermediate_size": 16}
    SiglipModel(SiglipConfig(text_config=sizes | words, vision_config=vision)).save_pretrained(folder)
    SiglipImageProcessorPil(size={"height": 8, "width": 8}).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def classes(names: Sequence[str]) -> dict[str, Any]:
    """The entries of a configuration that name the classes."""
    return {"id2label": dict(enumerate(names)), "label2id": {name: index for index, name in enumerate(names)}}


def text(name: str, thing: str, place: str) -> str:
    return f"{name} sees {thing} in {place}"


def jsonl(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
