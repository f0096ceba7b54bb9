"""`transfuse doctor` confirms that a model can be fused, or names the problem and exits with status 1."""

import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from cli_inputs import SIZES, Run, World, one_line
from datasets import Dataset
from PIL import Image
from transformers import ViTConfig, ViTModel

from transfuse.alignment.exact.groups import random_alignment
from transfuse.alignment.transform import transform_all
from transfuse.checkpoint.reading.load import load_model
from transfuse.fusion.fuse import fuse
from transfuse.network.model import network
from transfuse.network.symmetry import symmetric
from transfuse.verification import self_fusion
from transfuse.verification.self_fusion import in_place

WRONG = """
import transfuse
from transfuse.network.families import FAMILIES
right = FAMILIES["ViTForImageClassification"]
class Ops(tuple): pass
def wrong(config):
    from dataclasses import replace
    spec = right(config)
    def signed(axis):
        name = getattr(axis, "name", "")
        return replace(axis, group=transfuse.Group.SIGNED) if name.endswith("hidden") else axis
    return replace(spec, ops=tuple(op.replace(lambda axis: axis.replace(signed)) for op in spec.ops))
transfuse.register("ViTForImageClassification", wrong)
"""


def examined(run: Run, *arguments: object, status: int = 0) -> dict[str, Any]:
    ran = run("doctor", *arguments, "--json")
    assert (ran.status, ran.err) == (status, ""), ran
    return dict(json.loads(ran.out))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_a_model_comes_back(dtype: torch.dtype, world: World, run: Run) -> None:
    load_model(world.a, dtype=dtype).save_pretrained(world.here / "model")
    found = examined(run, world.here / "model", "--seed", 3)
    assert found["problems"] == []
    assert found["model"]["dtype"] == str(dtype).removeprefix("torch.")
    assert found["declaration"] < 1e-9
    kinds = {each["name"]: each for each in found["spaces"]}
    assert kinds.keys() == {"stream", "head", "qk", "v", "hidden"}
    assert all(each["in_place_before"] < 0.1 and each["in_place_after"] == 1 for each in kinds.values())
    proof = found["recovery"]
    assert proof["match_on"] == "weights"
    assert max(proof["copy"], proof["fused"]) < 1e-5
    assert proof["plain"] > 0.1


def test_what_is_said_of_a_model(world: World, run: Run) -> None:
    ran = run("doctor", world.a)
    assert (ran.status, ran.err) == (0, "")
    assert ran.out.endswith(f"No problem was found in {world.a} (float32).\n")
    assert all(
        each in ran.out for each in ("centered orthogonal", "in place after", "100.0%", "every tensor is declared")
    )
    assert run("doctor", world.a, "--quiet").out == ""


@pytest.mark.parametrize("more", [[], ["--match-on", "both", "--merge", "mean"]], ids=["default", "both"])
def test_a_model_comes_back_by_samples(more: list[str], world: World, run: Run) -> None:
    pixels = torch.randint(256, (100, 8, 8), generator=torch.Generator().manual_seed(1), dtype=torch.uint8).numpy()
    Dataset.from_dict({"image": [Image.fromarray(each) for each in pixels]}).save_to_disk(world.here / "pictures")
    model = world.edited(lambda tensors: [values.mul_(10) for name, values in tensors.items() if "layers" in name])
    proof = examined(run, model, "--data", world.here / "pictures", *more)["recovery"]
    assert (proof["match_on"], proof["merge"]) == (("both", "mean") if more else ("weights", "least-squares"))
    assert proof["samples"] == 100
    assert proof["fused"] < 1e-3 < 0.1 < proof["plain"]


def test_a_model_without_a_head_comes_back(world: World, run: Run) -> None:
    torch.manual_seed(0)
    ViTModel(ViTConfig(**SIZES)).save_pretrained(world.here / "bare")
    proof = examined(run, world.here / "bare")["recovery"]
    assert proof["copy"] is None
    assert proof["fused"] < 1e-5 < 0.1 < proof["plain"]


def test_a_declaration_that_is_not_true(world: World, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from transfuse.network.families import FAMILIES

    monkeypatch.setitem(FAMILIES, "ViTForImageClassification", FAMILIES["ViTForImageClassification"])
    ran = run("doctor", world.a, "--spec", world.file("wrong.py", WRONG))
    assert (ran.status, ran.err) == (1, "")
    assert "Problem: vit: moving space 0.hidden (signed permutation) changes" in ran.out
    assert "No problem" not in ran.out


def test_a_model_that_does_not_come_back(world: World, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(self_fusion, "fuse", partial(fuse, align="none"))
    found = examined(run, world.a, status=1)
    assert "the model is not recovered" in found["problems"][0]
    assert found["recovery"]["fused"] == pytest.approx(found["recovery"]["plain"], rel=1e-3)


def test_too_few_samples_are_told_of(world: World, run: Run) -> None:
    ran = run("doctor", world.a, "--data", world.bare, "--match-on", "activations", "--merge", "mean", "--samples", 2)
    assert ran.status == 1
    assert "by 2 samples; more may be needed" in ran.out


def test_where_nothing_can_be_proved(world: World, run: Run) -> None:
    constant = world.edited(lambda tensors: tensors["classifier.weight"].zero_())
    assert "nothing is proved" in examined(run, constant, status=1)["problems"][0]


def test_mistakes(world: World, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    one_line(run("doctor", world.here / "nowhere"), ["nowhere", "no such directory"])
    one_line(run("doctor", world.foreign), ["foreign", "ErnieForQuestionAnswering"])
    one_line(run("doctor"), ["MODEL"])
    one_line(run("doctor", world.a, "--match-on", "both"), ["both", "--data"])
    one_line(run("doctor", world.a, "--merge", "ties"), ["--merge: ties takes a base model, which doctor does not"])
    one_line(run("doctor", world.a, "--data", world.words), ["words.jsonl", "no image column"])
    one_line(run("doctor", world.edited(lambda tensors: tensors.pop("classifier.bias"))), ["missing"])
    monkeypatch.setattr("transfuse.cli.jobs.doctor.available_bytes", lambda: 1000)
    one_line(run("doctor", world.a), ["memory", "free"])


def test_units_out_of_place_are_counted(world: World) -> None:
    """Of one space alone: two of 32 hidden units changed places, and nobody else did."""
    own = network(load_model(world.a), torch.device("cpu"))
    spec = symmetric(own.spec)
    order = torch.arange(32)
    order[[4, 9]] = order[[9, 4]]
    maps = {"0.hidden": type(random_alignment(spec, 0)["0.hidden"])(order)}
    found = in_place(spec, transform_all(spec, own.tensors, maps), own.tensors)
    assert found.pop("0.hidden") == 30 / 32
    assert set(found.values()) == {1.0}


def test_nothing_is_written(world: World, run: Run) -> None:
    model = Path(shutil.copytree(world.a, world.here / "model"))
    before = world.listing()
    run("doctor", model)
    assert world.listing() == before
