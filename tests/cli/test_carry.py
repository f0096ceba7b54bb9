"""`transfuse carry` on the command line."""

import json
from pathlib import Path

import torch
from cli_inputs import Run, World, one_line
from transformers import AutoModelForImageClassification

from transfuse.alignment.exact.model_maps import load_maps


def tuned(world: World, base: Path | None = None) -> Path:
    """A fine-tune of the first model of the world, or of another base, saved."""
    model = AutoModelForImageClassification.from_pretrained(base or world.a)
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * parameter.std(correction=0) * torch.randn_like(parameter))
    model.save_pretrained(world.here / "tuned")
    return world.here / "tuned"


def test_by_weights(world: World, run: Run) -> None:
    ran = run("carry", world.a, tuned(world), world.b, "-o", world.here / "out")
    assert (ran.status, ran.err) == (0, "")
    first, last = ran.out.splitlines()
    assert first.startswith(f"Carried {world.here}/tuned to {world.b}, into {world.here}/out (by weights, ")
    assert last.startswith("Not measured: there was no data.")
    record = json.loads((world.here / "out" / "transfuse.json").read_text())
    assert record["carried"] == {"new base": str(world.b), "base": str(world.a), "tuned": str(world.here / "tuned")}
    card = (world.here / "out" / "README.md").read_text()
    assert "The difference between the weights of both was added to the new base." in card
    assert f"transfuse carry {world.a} {world.here}/tuned {world.b} -o {world.here}/out" in card
    assert AutoModelForImageClassification.from_pretrained(world.here / "out").config.num_labels == 2


def test_with_samples_and_an_adapter(world: World, run: Run) -> None:
    given = ("--data", world.images, "--keep", world.bare, "--adapter-out", 4, "--effort", "quick")
    ran = run("carry", world.a, tuned(world), world.b, "-o", world.here / "out", *given)
    assert (ran.status, ran.err) == (0, "")
    first, adapter, last = ran.out.splitlines()
    assert "(layers fitted to 12 samples and 6 to keep, " in first
    assert adapter.startswith(f"Adapter in {world.here}/out/adapter, for {world.b}.")
    assert last.startswith("The carried model reaches ")
    assert "accuracy, and the tuned model " in last
    assert (world.here / "out" / "adapter" / "adapter_model.safetensors").exists()
    card = (world.here / "out" / "README.md").read_text()
    assert all(f"{option} {value}" in card for option, value in zip(given[::2], given[1::2], strict=True))
    assert "All weights were then trained" not in card
    assert "The carried model reaches" in card


def test_training_for_some_steps(world: World, run: Run) -> None:
    given = ("--data", world.images, "--keep", world.bare, "--steps", 3)
    ran = run("carry", world.a, tuned(world), world.b, "-o", world.here / "out", *given)
    assert (ran.status, ran.err) == (0, "")
    record = json.loads((world.here / "out" / "transfuse.json").read_text())
    assert record["learned_weights"]["steps"] == 3
    trained = record["learned_weights"]["best"] == 3
    assert ("weights trained in 3 steps, " in ran.out) == trained
    assert ("training gained nothing, " in ran.out) != trained
    card = (world.here / "out" / "README.md").read_text()
    assert ("All weights were then trained to the same targets, for 3 steps." in card) == trained
    assert "--keep" in card
    assert "--steps 3" in card


def test_the_card_has_what_was_matched_on(world: World, run: Run) -> None:
    given = ("--data", world.images, "--match-on", "weights", "--effort", "quick")
    assert run("carry", world.a, tuned(world), world.b, "-o", world.here / "out", *given).status == 0
    assert "--match-on weights" in (world.here / "out" / "README.md").read_text()


def test_a_report_and_maps(world: World, run: Run) -> None:
    given = ("--data", world.images, "--effort", "quick", "--report", "--maps", world.here / "maps.safetensors")
    ran = run("carry", world.a, tuned(world), world.b, "-o", world.here / "out", *given)
    assert (ran.status, ran.err) == (0, "")
    assert ran.out.splitlines()[-1] == f"Report: {world.here}/out/report.html"
    page = (world.here / "out" / "report.html").read_text()
    assert "The carried model reaches" in page
    assert "difference added, not aligned" in page
    assert "than the control, which adds" in page
    assert "(new base)" in page
    assert "transfuse carry" in page
    maps = load_maps(world.here / "maps.safetensors")
    assert (maps.facts["source"], maps.facts["anchor"]) == (str(world.a), str(world.b))
    assert maps.states(torch.zeros(2, 16)).shape == (2, 16)
    one_line(run("report", world.here / "out"), ["was carried", "carry --report"])


def test_to_a_wider_base(world: World, run: Run) -> None:
    ran = run("carry", world.a, tuned(world), world.wide, "-o", world.here / "out")
    assert ran.status == 0
    lines = ran.err.splitlines()
    assert lines == [
        f"transfuse: {path}: has a width of 16, {world.wide} has 24; it gets wider without a change of its function"
        for path in (world.here / "tuned", world.a)
    ]
    record = json.loads((world.here / "out" / "transfuse.json").read_text())
    assert [model["path"] for model in record["models"]] == [*map(str, (world.wide, world.a, world.here / "tuned"))]
    ran = run("carry", world.a, world.here / "tuned", world.wide, "--dry-run", "--json")
    assert (ran.status, ran.err) == (0, "")
    plan = json.loads(ran.out)
    assert plan["size_changes"].keys() == {str(world.a), str(world.here / "tuned")}
    new, base, fine_tune = (model["parameters"] for model in plan["models"])
    assert base == fine_tune < new
    maps = ("--maps", world.here / "maps.safetensors")
    given = ("carry", world.a, world.here / "tuned", world.wide)
    one_line(run(*given, "-o", world.here / "other", *maps), ["maps", "equal sizes"])
    one_line(run(*given, "--dry-run", *maps), ["maps", "equal sizes"])


def test_to_a_narrower_base_with_a_report(world: World, run: Run) -> None:
    given = ("--data", world.images, "--keep", world.bare, "--steps", 2, "--report")
    ran = run("carry", world.wide, tuned(world, world.wide), world.a, "-o", world.here / "out", *given)
    assert (ran.status, ran.err) == (0, "")
    assert "taught on" in ran.out
    page = (world.here / "out" / "report.html").read_text()
    assert "better than the new base." in page  # since weights of other shapes cannot be added, there is no control


def test_a_dry_run_writes_nothing(world: World, run: Run) -> None:
    ran = run("carry", world.a, tuned(world), world.b, "--data", world.images, "--keep", world.bare, "--dry-run")
    assert (ran.status, ran.err) == (0, "")
    assert "samples: 18, each of up to" in ran.out
    assert "memory with samples: about" in ran.out
    by_weights = run("carry", world.a, world.here / "tuned", world.b, "--dry-run", "--json")
    assert json.loads(by_weights.out)["data"] is None
    assert [path.name for path in world.here.iterdir()] == ["tuned"]


def test_mistakes_are_one_line(world: World, run: Run) -> None:
    out, fine_tune = world.here / "out", tuned(world)
    one_line(run("carry", world.a, world.b, fine_tune, "-o", out), [str(world.b), "not fine-tuned from", str(world.a)])
    one_line(run("carry", world.a, fine_tune, world.b, "-o", out, "--keep", world.bare), ["--keep", "--data"])
    one_line(run("carry", world.a, fine_tune, world.b, "-o", out, "--steps", 3), ["--steps", "--data"])
    both = ("--data", world.images, "--steps", 3, "--effort", "high")
    one_line(run("carry", world.a, fine_tune, world.b, "-o", out, *both), ["--effort", "--steps", "give one"])
    few = ("--data", world.images, "--max-memory", "100MB")
    one_line(run("carry", world.a, fine_tune, world.b, "-o", out, *few), ["max-memory", "at least"])
    one_line(run("carry", world.a, fine_tune, world.b), ["-o OUT"])
    inside = ("--maps", out / "maps.safetensors")
    one_line(run("carry", world.a, fine_tune, world.b, "-o", out, *inside), ["lies in the output"])
    one_line(run("carry", world.a, fine_tune, world.b, "-o", out, "--maps", "maps.pt"), [".safetensors"])
    one_line(run("carry", world.a, fine_tune, world.b, "-o", world.b), ["input"])
    one_line(run("carry", world.a, fine_tune, world.b, "-o", out, "--data", world.here / "none"), ["none"])
    wide_tune = tuned(world, world.wide)
    one_line(run("carry", world.wide, wide_tune, world.a, "-o", out), ["learns from samples", "--data"])
    one_line(run("carry", world.wide, wide_tune, world.a, "--dry-run"), ["learns from samples", "--data"])
    assert not out.exists()
