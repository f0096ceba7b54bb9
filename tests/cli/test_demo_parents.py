"""The parents of the demo: what they see, and when they are trained again."""

from pathlib import Path

import numpy as np
import pytest
import torch

from transfuse.cli.demo import digits
from transfuse.cli.demo.training import Recipe


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The seeds of all parents that are trained, for no time."""
    seeds: list[int] = []
    monkeypatch.setattr(digits, "RECIPE", Recipe(epochs=1, batch_size=64, learning_rate=2e-3))
    monkeypatch.setattr(digits, "train_classifier", lambda *given: seeds.append(given[-1]))
    return seeds


@pytest.mark.parametrize("name", ["training.json", "model.safetensors", "config.json"])
def test_a_damaged_file(name: str, tmp_path: Path, trained: list[int]) -> None:
    data, folder = digits.digits(), tmp_path / "parent-1"
    made = digits.parent(folder, data, 1)
    again = digits.parent(folder, data, 1)
    assert trained == [1]
    assert all(torch.equal(values, again.state_dict()[key]) for key, values in made.state_dict().items())
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(whole[: len(whole) // 2])
    digits.parent(folder, data, 1)
    assert trained == [1, 1]
    assert (folder / name).read_bytes() == whole
    digits.parent(folder, data, 2)
    assert trained == [1, 1, 2]


def test_each_parent_knows_one_half_of_the_digits() -> None:
    train = digits.digits()["train"]
    draws = np.random.default_rng(0).random(len(train))
    first, second = (digits.skewed(train, seed, digits.KNOWN_SHARE, draws) for seed in (1, 2))
    assert len(first) + len(second) == len(train)
    for scans, known, other in ((first, "zero to four", "five to nine"), (second, "five to nine", "zero to four")):
        parts, everything = digits.halves(scans), digits.halves(train)
        assert 0.85 < len(parts[known]) / len(everything[known]) < 0.95
        assert 0.05 < len(parts[other]) / len(everything[other]) < 0.15
