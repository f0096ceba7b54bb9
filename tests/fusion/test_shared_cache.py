"""A run that shares a cache with other runs finds what it finds without one."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from languages import TEXTS, llama, saved

import transfuse

LEARNED = {"align": "learned", "steps": 3}


@pytest.mark.parametrize(
    ("before", "options"),
    [
        ({**LEARNED, "merge": "mean"}, {**LEARNED, "merge": "least-squares"}),
        ({"merge": "mean"}, {"align": "flow"}),
    ],
    ids=["other maps to train from", "models in other forms"],
)
def test_nothing_of_another_run_is_used(before: Mapping[str, Any], options: Mapping[str, Any], tmp_path: Path) -> None:
    models = [saved(tmp_path / str(seed), llama, seed) for seed in range(2)]
    expected = transfuse.fuse(models, TEXTS, device="cpu", **options).model.state_dict()
    transfuse.fuse(models, TEXTS, device="cpu", cache=tmp_path / "cache", **before)
    found = transfuse.fuse(models, TEXTS, device="cpu", cache=tmp_path / "cache", **options).model.state_dict()
    for name, values in expected.items():
        assert torch.equal(values, found[name]), name
