"""Checkpoints that several of these tests fuse."""

from pathlib import Path

import pytest
from languages import gpt2, saved


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Return two tiny language models with a tokenizer."""
    folder = tmp_path_factory.mktemp("models")
    return [saved(folder / str(seed), gpt2, seed) for seed in range(2)]
