"""Write the random models and samples that the memory of fusions with samples is measured on."""

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL.Image
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    BertConfig,
    BertForMaskedLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessorPil,
)

VOCABULARY = 16_384
TOKENS = 128  # of the longest text
SPECIAL = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "mask_token": "<mask>"}


@dataclass(frozen=True)
class Subject:
    """Two models and their samples.

    Attributes:
        build: returns an untrained model.
        pixels: side of the images; 0 for texts.
        samples: number of samples.
    """

    build: Callable[[], PreTrainedModel]
    pixels: int
    samples: int

    def write(self, folder: Path) -> tuple[list[Path], Path]:
        """Write two models of different seeds and the samples. Return the folders of the models, and of the samples."""
        paths = [folder / name for name in ("one", "two")]
        for seed, path in enumerate(paths):
            torch.manual_seed(seed)
            self.build().save_pretrained(path)
            self._processor().save_pretrained(path)
        data = folder / "images" if self.pixels else folder / "texts.jsonl"
        _write_images(data, self.pixels, self.samples) if self.pixels else _write_texts(data, self.samples)
        return paths, data

    def _processor(self) -> ViTImageProcessorPil | PreTrainedTokenizerFast:
        if self.pixels:
            return ViTImageProcessorPil(size={"height": self.pixels, "width": self.pixels})
        words = {word: number for number, word in enumerate(_words())}
        tokenizer = Tokenizer(models.WordLevel(words, unk_token=SPECIAL["unk_token"]))
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=TOKENS, **SPECIAL)


def vit(width: int, pixels: int, patch: int) -> ViTForImageClassification:
    """Return an untrained ViT of 12 blocks."""
    config = ViTConfig(
        hidden_size=width, num_hidden_layers=12, num_attention_heads=width // 64, intermediate_size=4 * width,
        image_size=pixels, patch_size=patch, num_labels=10,
    )  # fmt: skip
    return ViTForImageClassification(config)


def llama(width: int, blocks: int = 4) -> LlamaForCausalLM:
    """Return an untrained Llama."""
    config = LlamaConfig(
        hidden_size=width, num_hidden_layers=blocks, num_attention_heads=width // 64, num_key_value_heads=width // 128,
        intermediate_size=3 * width, vocab_size=VOCABULARY, max_position_embeddings=TOKENS, pad_token_id=0,
        bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    return LlamaForCausalLM(config)


def gpt2(width: int, blocks: int = 4) -> GPT2LMHeadModel:
    """Return an untrained GPT-2, whose head is tied to the embeddings."""
    config = GPT2Config(
        n_embd=width, n_layer=blocks, n_head=width // 64, vocab_size=VOCABULARY, n_positions=TOKENS, pad_token_id=0,
        bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    return GPT2LMHeadModel(config)


def bert(width: int, blocks: int = 4) -> BertForMaskedLM:
    """Return an untrained masked language model."""
    config = BertConfig(
        hidden_size=width, num_hidden_layers=blocks, num_attention_heads=width // 64, intermediate_size=4 * width,
        vocab_size=VOCABULARY, max_position_embeddings=TOKENS, pad_token_id=0,
    )  # fmt: skip
    return BertForMaskedLM(config)


SUBJECTS = {
    "ViT 192, 32 pixels": Subject(lambda: vit(192, 32, 4), 32, 40),
    "ViT 384, 64 pixels": Subject(lambda: vit(384, 64, 8), 64, 24),
    "Llama 384": Subject(lambda: llama(384), 0, 40),
    "GPT-2 256": Subject(lambda: gpt2(256), 0, 40),
    "BERT 256": Subject(lambda: bert(256), 0, 40),
}
BASE_SUBJECTS = {  # of the size of the "base" models that are published
    "Llama": Subject(lambda: llama(768, 12), 0, 48),
    "GPT-2": Subject(lambda: gpt2(768, 12), 0, 48),
    "BERT-base": Subject(lambda: bert(768, 12), 0, 48),
    "ViT-B/16": Subject(lambda: vit(768, 224, 16), 224, 24),
}


def _words() -> Sequence[str]:
    return [*SPECIAL.values(), *(f"w{number}" for number in range(VOCABULARY - len(SPECIAL)))]


def _write_images(folder: Path, pixels: int, count: int) -> None:
    """Write images of noise without labels."""
    folder.mkdir()
    draw = np.random.default_rng(0)
    for number in range(count):
        noise = draw.integers(0, 256, (pixels, pixels, 3), np.uint8)
        PIL.Image.fromarray(noise).save(folder / f"{number:04}.png")


def _write_texts(path: Path, count: int) -> None:
    """Write texts of random words, of half the longest length and more."""
    draw = random.Random(0)
    words = _words()[len(SPECIAL) :]
    rows = [{"text": " ".join(draw.choices(words, k=draw.randint(TOKENS // 2, TOKENS)))} for _ in range(count)]
    path.write_text("\n".join(map(json.dumps, rows)) + "\n")
