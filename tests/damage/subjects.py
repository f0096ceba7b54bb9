"""What is damaged: pairs of tiny checkpoints with all that belongs to them, and samples."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import transformers
from cases import BERT, GPT2, LLAMA, VIT
from PIL import Image
from tokenizers.implementations import ByteLevelBPETokenizer
from transformers import BertTokenizerFast, PreTrainedTokenizerFast, ViTImageProcessorPil

TEXTS = [f"number {row % 7} follows number {row % 5}" for row in range(12)]
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "number", "follows", *map(str, range(10))]
END = "<|end|>"


@dataclass(frozen=True)
class Subjects:
    """Read-only inputs.

    Attributes:
        pairs: by the class of transformers, two checkpoints.
        images: a folder of pictures in two classes.
    """

    pairs: dict[str, tuple[Path, Path]]
    images: Path


def build(root: Path) -> Subjects:
    """All of them, below a folder."""
    one = {"num_hidden_layers": 1}
    kinds = {
        "ViTForImageClassification": VIT | one | {"num_channels": 1, "num_labels": 2},
        "BertForSequenceClassification": BERT | one | {"vocab_size": len(WORDS)},
        "GPT2LMHeadModel": GPT2 | {"n_layer": 1, "vocab_size": 300},
        "LlamaForCausalLM": LLAMA | one | {"vocab_size": 300},
    }
    pairs = {name: (_saved(root, name, sizes, 1), _saved(root, name, sizes, 2)) for name, sizes in kinds.items()}
    generator = np.random.default_rng(0)
    for index in range(8):
        folder = root / "images" / ("dark", "light")[index % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(generator)).save(folder / f"{index}.png")
    return Subjects(pairs, root / "images")


def picture(generator: np.random.Generator) -> np.ndarray:
    """Grey noise as large as the ViT's images."""
    return generator.integers(0, 256, (VIT["image_size"], VIT["image_size"])).astype(np.uint8)


def rows() -> list[dict[str, object]]:
    """Labelled texts."""
    return [{"text": text, "label": index % 2} for index, text in enumerate(TEXTS)]


def _saved(root: Path, name: str, sizes: dict[str, object], seed: int) -> Path:
    torch.manual_seed(seed)
    architecture = getattr(transformers, name)
    folder = root / f"{name}-{seed}"
    config = architecture.config_class(**sizes)
    if name.startswith("ViT"):
        config.id2label, config.label2id = {0: "dark", 1: "light"}, {"dark": 0, "light": 1}
    architecture(config).save_pretrained(folder)
    if name.startswith("ViT"):
        side = sizes["image_size"]
        processor = ViTImageProcessorPil(size={"height": side, "width": side}, image_mean=[0.5], image_std=[0.5])
        processor.save_pretrained(folder)
    elif name.startswith("Bert"):
        (folder / "vocab.txt").write_text("\n".join(WORDS))
        BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    else:
        words = ByteLevelBPETokenizer()
        words.train_from_iterator(TEXTS, 280, special_tokens=[END], show_progress=False)
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=words._tokenizer, eos_token=END, pad_token=END)
        tokenizer.model_max_length = 12
        tokenizer.save_pretrained(folder)
    return folder


def table(folder: Path, found: list[dict[str, object]]) -> Path:
    """Rows as JSON lines."""
    path = folder / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, found)), encoding="utf-8")
    return path
