"""A model fused with a hidden copy of itself comes back as that copy, through the command line."""

from pathlib import Path

import pytest
import torch
from cli_inputs import Run
from datasets import Dataset
from pictures import processor_of
from PIL import Image
from transformers import ViTConfig, ViTForImageClassification

from transfuse.alignment.exact.groups import random_alignment
from transfuse.alignment.transform import transform_all
from transfuse.network.families import declare
from transfuse.network.symmetry import fold, symmetric

CONFIG = ViTConfig(
    hidden_size=48, num_hidden_layers=3, num_attention_heads=4, intermediate_size=90, image_size=16, patch_size=4,
    num_channels=1, num_labels=6,
)  # fmt: skip


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """A model, and its copy moved by a random element of its whole group; both in float32 on disk."""
    torch.manual_seed(0)
    model = ViTForImageClassification(CONFIG)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    spec = symmetric(declare(CONFIG, "ViTForImageClassification"))
    precise = {name: values.double() for name, values in model.state_dict().items()}
    moved = transform_all(spec, fold(spec, precise), random_alignment(spec, 7))
    model.save_pretrained(tmp_path / "model")
    model.load_state_dict(moved)
    model.save_pretrained(tmp_path / "copy")
    for name in ("copy", "model"):
        processor_of(CONFIG).save_pretrained(tmp_path / name)
    return tmp_path / "copy", tmp_path / "model"


def pictures(folder: Path) -> Path:
    """Random grey images, saved as a dataset."""
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randint(256, (120, 16, 16), generator=generator, dtype=torch.uint8).numpy()
    Dataset.from_dict({"image": [Image.fromarray(each) for each in pixels]}).save_to_disk(folder)
    return folder


@pytest.mark.parametrize("evidence", ["weights", "activations", "both"])
def test_the_copy_comes_back(evidence: str, pair: tuple[Path, Path], tmp_path: Path, run: Run) -> None:
    data = [] if evidence == "weights" else ["--data", pictures(tmp_path / "pictures")]
    ran = run("fuse", *pair, "-o", tmp_path / "out", "--match-on", evidence, *data)
    assert (ran.status, ran.err) == (0, "")
    images = torch.randn(20, 1, 16, 16, generator=torch.Generator().manual_seed(2))
    copy, model, fused = (
        ViTForImageClassification.from_pretrained(folder).eval() for folder in (*pair, tmp_path / "out")
    )
    with torch.no_grad():
        expected = copy(pixel_values=images).logits
        plain = ViTForImageClassification(CONFIG).eval()
        parts = zip(copy.state_dict().items(), model.state_dict().values(), strict=True)
        plain.load_state_dict({name: (ours + theirs) / 2 for (name, ours), theirs in parts})
        assert (fused(pixel_values=images).logits - expected).abs().max() < 1e-4
        assert (plain(pixel_values=images).logits - expected).abs().max() > 0.1
