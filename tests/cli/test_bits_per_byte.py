"""Bits per byte in the tables and the JSON of commands."""

import json
import math
from pathlib import Path

import pytest
from languages import TEXTS, gpt2, saved


def test_it_has_intervals_and_differences(run, tmp_path: Path) -> None:
    data = tmp_path / "texts.txt"
    data.write_text("\n".join(TEXTS))
    a, b = (saved(tmp_path / name, gpt2, seed) for seed, name in enumerate("ab"))
    shown = run("eval", a, b, "--data", data)
    assert "bits/byte" in shown.out
    first, second = json.loads(run("eval", a, b, "--data", data, "--json").out)
    low, high = first["intervals"]["bits_per_byte"]
    assert low < first["bits_per_byte"] < high
    low, high = first["intervals"]["perplexity"]
    assert low < first["perplexity"] < high
    assert [math.log(end) for end in (low, high)] == pytest.approx(first["intervals"]["loss"])
    assert f"[{low:.1f}, {high:.1f}]" in shown.out
    difference = first["against"][0]["bits_per_byte"]["value"]
    assert difference == pytest.approx(first["bits_per_byte"] - second["bits_per_byte"])
    points = json.loads(run("path", a, b, "--data", data, "--points", "3", "--json").out)["points"]
    assert points[0]["bits_per_byte"] == pytest.approx(first["bits_per_byte"], rel=1e-4)
    assert "bits/byte" in run("path", a, b, "--data", data, "--points", "3").out
