"""What the tests of the command line work with."""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessorPil

SIZES: dict[str, Any] = {
    "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32, "image_size": 8,
    "patch_size": 4, "num_channels": 1, "num_labels": 2,
}  # fmt: skip


def vit(path: Path, seed: int, **changes: int) -> Path:
    """A random ViT of the classes of the images, or of `num_labels` others, saved with its processor.

    Args:
        changes: changes to its sizes.
    """
    torch.manual_seed(seed)
    config = ViTConfig(**SIZES | changes)
    if "num_labels" not in changes:
        config.id2label = {0: "dark", 1: "light"}
        config.label2id = {"dark": 0, "light": 1}
    ViTForImageClassification(config).save_pretrained(path)
    size = {"height": SIZES["image_size"], "width": SIZES["image_size"]}
    ViTImageProcessorPil(size=size, image_mean=[0.5], image_std=[0.5]).save_pretrained(path)
    return path


@dataclass(frozen=True)
class World:
    """Read-only inputs, and a fresh directory to work in.

    Attributes:
        a, b: two ViTs of one shape.
        wide, deep, many, large: like them, but in width, depth, classes and image size.
        foreign: another architecture.
        images: labelled, 6 of each class; bare: the same without labels; words: a table without images.
    """

    a: Path
    b: Path
    wide: Path
    deep: Path
    many: Path
    large: Path
    foreign: Path
    images: Path
    bare: Path
    words: Path
    here: Path

    def damaged(self, edit: Callable[[Path], object]) -> Path:
        """A copy of `b`, edited."""
        copy = Path(shutil.copytree(self.b, self.here / "damaged"))
        edit(copy)
        return copy

    def edited(self, edit: Callable[[dict[str, Tensor]], object]) -> Path:
        """A copy of `b` with edited tensors."""

        def rewrite(copy: Path) -> None:
            tensors = load_file(copy / "model.safetensors")
            edit(tensors)
            save_file(tensors, copy / "model.safetensors", {"format": "pt"})

        return self.damaged(rewrite)

    def pickled(self) -> Path:
        """A copy of `b` with pickled weights."""

        def convert(copy: Path) -> None:
            torch.save(load_file(copy / "model.safetensors"), copy / "pytorch_model.bin")
            (copy / "model.safetensors").unlink()

        return self.damaged(convert)

    def file(self, name: str, text: str) -> Path:
        """A text file."""
        (self.here / name).write_text(text, encoding="utf-8")
        return self.here / name

    def listing(self) -> dict[str, bytes | None]:
        """Every file, hidden or not, in the directory to work in."""
        return {
            str(path.relative_to(self.here)): path.read_bytes() if path.is_file() else None
            for path in sorted(self.here.rglob("*"))
        }


@dataclass(frozen=True)
class Ran:
    """What a command left behind."""

    status: int
    out: str
    err: str


Run = Callable[..., Ran]


def one_line(ran: Ran, words: Sequence[str]) -> None:
    """A mistake of the user's: status 2, one line on stderr with all of `words`, nothing on stdout."""
    assert ran.status == 2, ran
    assert ran.out == ""
    assert ran.err.startswith("transfuse: ")
    assert ran.err.endswith("\n")
    assert ran.err.count("\n") == 1, ran.err
    assert [word for word in words if word not in ran.err] == [], ran.err


def by_path(ran: Ran) -> dict[str, dict[str, Any]]:
    """The records that `eval --json` printed, by the path of the model."""
    assert ran.status == 0, ran
    records = json.loads(ran.out)
    assert isinstance(records, list)
    return {record["path"]: record for record in records}
