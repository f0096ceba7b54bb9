"""The plane through three models: where they lie, and what is measured there."""

import json
import shutil
from math import dist
from pathlib import Path
from typing import Any

import pytest
import torch
from cli_inputs import Run, World, by_path, one_line
from safetensors.torch import load_file

from transfuse.checkpoint.reading.files import file_hashes
from transfuse.checkpoint.reading.load import load_model
from transfuse.checkpoint.record.provenance import provenance
from transfuse.evaluation.landscape import Plane, plane


@pytest.fixture
def fused(world: World, run: Run) -> Path:
    """What the default makes of `a` and `b`, from images: it lies on no line between them."""
    assert run("fuse", world.a, world.b, "-o", world.here / "fused", "--data", world.images, "-q").status == 0
    return world.here / "fused"


def surveyed(run: Run, *arguments: object) -> dict[str, Any]:
    ran = run("landscape", *arguments, "--points", 3, "--json")
    assert (ran.status, ran.err) == (0, ""), ran
    return dict(json.loads(ran.out))


def test_every_model_keeps_its_function_in_the_first_ones_basis(world: World, run: Run, fused: Path) -> None:
    models = world.a, world.b, fused
    found = surveyed(run, *models, "--data", world.images)
    assert [each["alignment"] for each in found["models"]] == ["anchor", "aligned", "already aligned"]
    alone = by_path(run("eval", *models, "--data", world.images, "--json"))
    for each in found["models"]:
        assert each["metrics"]["loss"] == pytest.approx(alone[each["path"]]["loss"], rel=1e-4)
        assert each["metrics"]["samples"] == 12
    (start, up), (base, zero), (_, height) = (each["position"] for each in found["models"])
    assert (start, up, zero) == (0, 0, 0)
    assert base > 0 < height
    assert [len(found[name]) for name in ("x", "y", "loss", "accuracy")] == [3, 3, 3, 3]
    assert min(map(min, found["loss"])) == found["lowest"]["loss"]
    assert sum(found["lowest"]["shares"]) == pytest.approx(1)
    moved = surveyed(run, world.a, fused, world.b, "--data", world.images)
    assert [each["alignment"] for each in moved["models"]] == ["anchor", "already aligned", "aligned"]
    sides = [
        sorted(dist(one["position"], other["position"]) for one in each for other in each)
        for each in (found["models"], moved["models"])
    ]
    assert sides[0] == pytest.approx(sides[1], rel=1e-4), "the triangle depends on the order of the models"


def test_aligned_models_are_nearer(world: World, run: Run, fused: Path) -> None:
    models = world.a, world.b, fused, "--data", world.images
    near, far = (surveyed(run, *models, *more)["models"][1] for more in ((), ("--align", "none")))
    assert far["alignment"] == "not aligned"
    assert near["position"][0] < 0.95 * far["position"][0]
    first, second = (load_file(path / "model.safetensors") for path in (world.a, world.b))
    plain = sum(float((first[name] - second[name]).square().sum()) for name in first) ** 0.5
    assert far["position"][0] == pytest.approx(plain, rel=1e-5)


@pytest.mark.parametrize(("name", "metric"), [("l.png", "loss"), ("l.SVG", "accuracy")])
def test_the_picture(name: str, metric: str, world: World, run: Run) -> None:
    target = world.here / name
    models = world.a, world.b, world.edited(lambda tensors: [values.mul_(1.5) for values in tensors.values()])
    ran = run(
        "landscape", *models, "--data", world.images, "--points", 3, "--limit", 4, "--plot", target, "--metric", metric
    )
    assert (ran.status, ran.err) == (0, "")
    assert "lowest loss of 3 x 3 points" in ran.out
    assert all(str(path) in ran.out for path in models)
    assert target.read_bytes()[:5] in (b"\x89PNG\r", b"<?xml")
    assert sorted(path.name for path in world.here.iterdir()) == ["damaged", name]


def test_models_that_span_no_plane(world: World, run: Run) -> None:
    run("fuse", world.a, world.b, "-o", world.here / "mean", "-q")
    words = ["mean", "is on the line", "transfuse path"]
    one_line(run("landscape", world.a, world.b, world.here / "mean", "--data", world.images), words)
    one_line(run("landscape", world.a, world.b, world.a, "--data", world.images), ["three models that differ"])


def test_mistakes(world: World, run: Run) -> None:
    three = world.a, world.b, world.damaged(lambda copy: None)
    one_line(run("landscape", *three, "--data", world.images, "--align", "flow"), ["--align", "flow", "exact, none"])
    one_line(run("landscape", *three, "--data", world.images, "--metric", "joy"), ["--metric", "joy", "loss, accuracy"])
    one_line(run("landscape", *three, "--data", world.images, "--points", 2), ["--points"])
    one_line(run("landscape", *three, "--data", world.images, "--plot", "x.gif"), [".png", ".svg"])
    one_line(run("landscape", *three, "--data", world.bare), ["bare", "label"])
    one_line(run("landscape", world.a, world.b, world.deep, "--data", world.images), ["has 3 blocks, the anchor has 2"])
    one_line(run("landscape", world.a, world.b, "--data", world.images), ["C"])


def test_lineage_is_read_from_the_records(world: World, tmp_path: Path) -> None:
    assert provenance(world.b, world.a) == "none"
    assert provenance(world.a, world.a) == "basis"

    def recorded(record: object) -> str:
        (child / "transfuse.json").write_text(json.dumps(record))
        return provenance(child, world.a)

    child = world.damaged(lambda copy: None)
    a, b = ({"path": str(path), "sha256": file_hashes(path)} for path in (world.a, world.b))
    assert recorded({"models": [a, b], "options": {"align": "exact"}}) == "gauge"
    assert recorded({"models": [a, b], "options": {"align": "flow"}}) == "basis"
    assert recorded({"models": [b, a], "options": {"align": "exact"}}) == "none"
    assert recorded({"finetuned": a}) == "basis"
    assert recorded({"finetuned": b}) == "none"
    assert recorded({"finetuned": b | {"path": "nowhere"}}) == "missing"
    assert recorded({"models": "?"}) == recorded([1]) == recorded({"finetuned": None}) == "none"
    (child / "transfuse.json").write_text("{")
    assert provenance(child, world.a) == "none"


def test_what_was_fine_tuned_from_a_fusion_is_still_in_the_basis(world: World, run: Run, fused: Path) -> None:
    tuned = world.damaged(lambda copy: None)
    record = {"finetuned": {"path": str(fused), "sha256": file_hashes(fused)}}
    (tuned / "transfuse.json").write_text(json.dumps(record))
    assert provenance(tuned, world.a) == "gauge"
    (fused / "config.json").write_text("{}")
    assert provenance(tuned, world.a) == "missing"


def test_a_relative_parent_is_found_from_every_folder(
    world: World, run: Run, monkeypatch: pytest.MonkeyPatch, fused: Path
) -> None:
    tuned, other = world.here / "tuned", world.here / "other"
    monkeypatch.chdir(world.here)
    assert run("finetune", "fused", "-o", "tuned", "--data", world.images, "--epochs", 1, "-q").status == 0
    other.mkdir()
    shutil.copytree(world.b, other / "fused")
    monkeypatch.chdir(other)
    assert provenance(tuned, world.a) == "gauge"
    shutil.rmtree(fused)
    assert provenance(tuned, world.a) == "missing"
    ran = run("landscape", world.a, world.b, tuned, "--data", world.images, "--points", 3, "--json")
    assert [each["alignment"] for each in json.loads(ran.out)["models"]] == ["anchor", "aligned", "aligned"]
    assert "tuned: is aligned to" in ran.err
    assert "fine-tuned from is missing or has changed" in " ".join(ran.err.split())


def test_distances_in_the_plane_are_those_between_the_models(world: World) -> None:
    model = load_model(world.a)
    generator = torch.Generator().manual_seed(0)
    models = [
        {name: torch.randn(values.shape, generator=generator) for name, values in model.state_dict().items()}
        for _ in range(3)
    ]
    area = plane(model, models, ["a", "b", "c"])
    for one in range(3):
        for other in range(3):
            squares = sum(float((models[one][name] - models[other][name]).square().sum()) for name in models[0])
            assert dist(area.corners[one], area.corners[other]) == pytest.approx(squares**0.5, rel=1e-5)
        assert area.shares(*area.corners[one]) == pytest.approx([float(one == each) for each in range(3)], abs=1e-9)


def test_the_grid_lies_around_the_models() -> None:
    x, y = Plane(4.0, -1.0, 2.0).grid(3, 0.2)
    assert x == pytest.approx((-2.0, 1.5, 5.0))
    assert y == pytest.approx((-1.0, 1.0, 3.0))
