"""Checkpoints are read without a network; there is one to damage, and an old output to replace."""

import shutil
from pathlib import Path

import pytest
import torch
from no_network import lookups
from transformers import ViTConfig, ViTForImageClassification

__all__ = ["lookups"]


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("saved") / "vit"
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    ViTForImageClassification(ViTConfig(**sizes, image_size=8, patch_size=4, num_labels=3)).save_pretrained(path)
    return path


@pytest.fixture
def vit(saved: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(saved, tmp_path / "vit"))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """An old output."""
    path = tmp_path / "model"
    path.mkdir()
    (path / "config.json").write_text('{"model_type": "old"}')
    (path / "model.safetensors").write_text("old weights")
    return path
