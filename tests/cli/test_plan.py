"""`transfuse plan` tells what would be matched, and the memory and disk space, without loading weights."""

import json
from pathlib import Path

import pytest
from world import SIZES, Run, World, one_line

from transfuse.base.sizes import format_bytes, parse_bytes
from transfuse.checkpoint import load


def told(world: World, run: Run, *more: object) -> dict[str, object]:
    ran = run("plan", world.a, world.b, "--json", *more)
    assert ran.status == 0, ran
    return dict(json.loads(ran.out))


def test_spaces_and_sizes(world: World, run: Run) -> None:
    found = told(world, run)
    spaces = {each["name"]: each for each in found["spaces"]}  # type: ignore[attr-defined]
    assert found["blocks"] == SIZES["num_hidden_layers"]
    assert spaces["hidden"] == {"name": "hidden", "units": 32, "group": "permutation", "inside": [], "count": 2}
    assert spaces["v"] == {"name": "v", "units": 8, "group": "linear", "inside": [2], "count": 2}
    assert spaces["stream"]["group"] == "centered orthogonal"
    size = sum(file.stat().st_size for file in Path(world.a).glob("*.safetensors"))
    assert 0.8 * size < found["output_bytes"] <= size  # type: ignore[operator]
    assert not found["streams"]
    assert not [name for name in found if "seconds" in name]
    assert told(world, run, "--align", "none")["spaces"] == []
    assert "soft plan" in {each["group"] for each in told(world, run, "--align", "flow")["spaces"]}  # type: ignore[attr-defined]


def test_little_memory_means_tensor_by_tensor(world: World, run: Run) -> None:
    least, most = (told(world, run)[name] for name in ("streamed_bytes", "loaded_bytes"))
    assert least < most  # type: ignore[operator]
    assert told(world, run, "--max-memory", least)["streams"]


def test_nothing_is_loaded(world: World, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "load_model", None)
    monkeypatch.setattr(load, "check_finite", None)
    assert run("plan", world.a, world.b).status == 0


def test_mistakes(world: World, run: Run) -> None:
    one_line(run("plan", world.a, world.deep), ["equal depth"])
    one_line(run("plan", world.a, world.here / "nowhere"), ["nowhere", "no such directory"])
    one_line(run("plan", world.a, world.b, "--max-memory", "much"), ["--max-memory", "8GB", "much"])


def test_sizes_as_people_write_them() -> None:
    assert [parse_bytes(text) for text in ("8GB", "1.5 MB", "2GiB", "12", "3k")] == [
        8 * 10**9, 1_500_000, 2 * 2**30, 12, 3000,
    ]  # fmt: skip
    assert [format_bytes(size) for size in (6.44e9, 5e6)] == ["6.4 GB", "5 MB"]
