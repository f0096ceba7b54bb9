"""Samples that had no part in a fusion are held out: what they measure is a result."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from languages import TEXTS, gpt2, saved

import transfuse


@pytest.mark.parametrize(
    ("options", "used"),
    [
        ({"merge": "slerp"}, False),
        ({"merge": "mean", "align": "none"}, False),
        ({"merge": "mean", "match_on": "weights"}, False),
        ({"merge": "mean"}, True),
    ],
    ids=str,
)
def test_who_reads_no_samples_uses_none(options: Mapping[str, Any], used: bool, tmp_path: Path) -> None:
    models = [saved(tmp_path / str(seed), gpt2, seed) for seed in range(2)]
    matched = transfuse.match(models, TEXTS, device="cpu", **options)
    assert matched.uses_samples == used
    fusion = transfuse.merge(matched)
    assert bool(fusion.record["calibration_samples"]) == used
    fusion.save(tmp_path / "fused")
    assert ("Samples: none to fuse." in (tmp_path / "fused" / "README.md").read_text()) != used
