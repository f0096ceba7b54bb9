"""A network out of reach, and a checkpoint to damage."""

import shutil
import socket
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
from transformers import ViTConfig, ViTForImageClassification


@pytest.fixture(autouse=True)
def lookups(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Hosts that anything tried to reach, all in vain; the cache of `datasets` is new."""
    tried: list[str] = []

    def unreachable(host: str, *args: Any, **kwargs: Any) -> None:
        tried.append(host)
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unreachable)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
    return tried


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
