"""What each command does when all is well, and what it says."""

import errno
import json
import logging
import shlex
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from cli_inputs import Run, World, by_path, one_line, vit
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import ViTForImageClassification

from transfuse.fusion.match import match


def weights(path: Path) -> dict[str, Tensor]:
    return load_file(path / "model.safetensors")


def strict(text: str) -> object:
    """JSON without NaN and infinities, which Python would read."""

    def refuse(constant: str) -> object:
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(text, parse_constant=refuse)


def test_strict_refuses_what_is_no_json() -> None:
    with pytest.raises(AssertionError, match="NaN"):
        strict('{"a": NaN}')


def test_fuse_writes_a_model_and_says_so_in_a_line_and_how_good_it_is_in_another(world: World, run: Run) -> None:
    out = world.here / "out"
    ran = run("fuse", world.a, world.b, "-o", out, "--data", world.images, "--samples", 5)
    assert (ran.status, ran.err) == (0, "")
    made, quality = ran.out.splitlines()
    assert made.startswith(f"Fused 2 models into {out} (align exact, matched on weights, layers fitted by")
    assert made.endswith(" s)")
    assert quality.startswith("The fused model reaches ")
    shared = "the samples that were also used to make it."
    assert quality.endswith(f"% accuracy). Measured on 12 samples of {world.images}, {shared}")
    ViTForImageClassification.from_pretrained(out)
    record = strict((out / "transfuse.json").read_text())
    assert isinstance(record, dict)
    assert record["data"] == str(world.images)
    assert record["calibration_samples"] == 5
    assert [path.name for path in world.here.iterdir()] == ["out"]


def test_the_data_is_recorded_as_it_was_given(world: World, run: Run) -> None:
    """Not with the split that was taken: the command on the card has to find it again."""
    shutil.copytree(world.images, world.here / "data" / "train")
    ran = run("fuse", world.a, world.b, "-o", world.here / "out", "--data", world.here / "data", "--json")
    assert json.loads(ran.out)["data"] == str(world.here / "data")


def test_quiet_says_nothing(world: World, run: Run) -> None:
    ran = run("fuse", world.a, world.b, "-o", world.here / "out", "-q")
    assert (ran.status, ran.out, ran.err) == (0, "", "")
    assert (world.here / "out" / "config.json").is_file()
    assert run("eval", world.a, "--data", world.images, "--quiet").out == ""
    assert json.loads(run("eval", world.a, "--data", world.images, "--quiet", "--json").out)
    one_line(run("eval", world.a, "--data", world.bare, "--quiet"), ["label"])


def test_what_libraries_say_is_not_heard(
    world: World,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    recwarn: pytest.WarningsRecorder,
) -> None:
    def chatter(*arguments: Any, **options: Any) -> Any:
        print("chatter")
        warnings.warn("chatter", stacklevel=1)
        logging.getLogger("library").error("chatter")
        return match(*arguments, **options)

    monkeypatch.setattr("transfuse.cli.jobs.fuse.match", chatter)
    ran = run("fuse", world.a, world.b, "-o", world.here / "out", "--json")
    assert ran.err == ""
    assert isinstance(strict(ran.out), dict)
    assert caplog.records == []
    assert "chatter" not in [str(warning.message) for warning in recwarn]
    logging.getLogger("library").error("heard")
    assert [record.message for record in caplog.records] == ["heard"], "silence outlives the command"


@pytest.mark.parametrize("more", [["--align", "none"], ["--align", "flow", "--data"], ["--data"]], ids=" ".join)
def test_json_of_fuse_is_one_strict_document(more: list[str], world: World, run: Run) -> None:
    out = world.here / "out"
    ran = run("fuse", world.a, world.b, "-o", out, *more, *([world.images] if "--data" in more else []), "--json")
    assert (ran.status, ran.err) == (0, "")
    document = strict(ran.out)
    assert isinstance(document, dict)
    assert document["output"] == str(out)
    assert document["options"]["align"] == (more[1] if "--align" in more else "exact")
    assert document["seconds"] > 0
    written = strict((out / "transfuse.json").read_text())
    assert document["quality"]["verdict"]
    assert {name: value for name, value in document.items() if name != "quality"} == written


@pytest.mark.parametrize("command", ["fuse", "carry", "finetune", "shrink"])
def test_all_commands_that_make_a_model_tell_its_quality_in_one_schema(command: str, world: World, run: Run) -> None:
    tuned = shutil.copytree(world.a, world.here / "tuned")
    save_file({name: 1.1 * values for name, values in weights(world.a).items()}, tuned / "model.safetensors")
    given: dict[str, tuple[object, ...]] = {
        "fuse": (world.a, world.b, "--merge", "mean"),
        "carry": (world.a, tuned, world.b, "--effort", "quick"),
        "finetune": (world.a, "--epochs", 1),
        "shrink": (world.a, "--layers", 1, "--effort", "quick"),
    }
    ran = run(command, *given[command], "--data", world.images, "-o", world.here / "out", "--json")
    assert ran.status == 0, ran
    quality = json.loads(ran.out)["quality"]
    assert quality.keys() == {"verdict", "models"}
    assert len(quality["models"]) >= 2
    for metrics in quality["models"].values():
        assert metrics.keys() == {"accuracy", "loss", "samples", "calibration_error"}


def test_options_reach_the_fusion(world: World, run: Run) -> None:
    """Each is seen in the weights: all to one parent gives that parent, half of each the mean."""
    for name, shares in {"a": "1,0", "b": "0,3", "mean": "2,2"}.items():
        done = run("fuse", world.a, world.b, "-o", world.here / name, "--align", "none", "--weights", shares)
        assert done.status == 0, done
    first, second = weights(world.a), weights(world.b)
    for name, due in first.items():
        torch.testing.assert_close(weights(world.here / "a")[name], due)
        torch.testing.assert_close(weights(world.here / "b")[name], second[name])
        torch.testing.assert_close(weights(world.here / "mean")[name], (due + second[name]) / 2)
    run("fuse", world.a, world.b, "-o", world.here / "half", "--align", "none", "--dtype", "bfloat16")
    assert {values.dtype for values in weights(world.here / "half").values()} == {torch.bfloat16}


def test_overwrite_replaces_a_model(world: World, run: Run) -> None:
    out = vit(world.here / "out", 9)
    before = weights(out)
    one_line(run("fuse", world.a, world.b, "-o", out), ["--overwrite"])
    assert run("fuse", world.a, world.b, "-o", out, "--overwrite").status == 0
    assert any(not torch.equal(before[name], values) for name, values in weights(out).items())


def test_a_configuration_file_gives_what_flags_do_not(world: World, run: Run) -> None:
    job = {
        "models": [str(world.a), str(world.b)], "output": str(world.here / "out"), "align": "flow", "seed": 3,
        "batch-size": 2, "weights": [3, 1], "data": str(world.images),
    }  # fmt: skip
    config = world.file("job.yaml", yaml.safe_dump(job))
    ran = run("fuse", "--config", config, "--seed", 4, "-o", world.here / "other", "--json")
    assert ran.status == 0, ran
    options = json.loads(ran.out)["options"]
    assert {name: options[name] for name in ("align", "seed", "batch_size", "weights")} == {
        "align": "flow", "seed": 4, "batch_size": 2, "weights": [3, 1],
    }  # fmt: skip
    assert not (world.here / "out").exists()
    assert (world.here / "other").exists()


def test_the_card_holds_the_command_that_makes_the_same_model(world: World, run: Run) -> None:
    out = world.here / 'it\'s a "model" [x]'
    ran = run(
        "fuse", world.a, world.b, "-o", out, "--align", "flow", "--weights", "1,2", "--data", world.images, "--seed", 7
    )
    assert f"into {out} (" in ran.out
    card = (out / "README.md").read_text()
    front = yaml.safe_load(card.split("---\n")[1])
    assert "base_model" not in front, "the Hub refuses local paths"
    assert front["pipeline_tag"] == "image-classification"
    first = weights(out)
    (line,) = [line for line in card.splitlines() if line.startswith("transfuse fuse ")]
    words = shlex.split(line)[1:]
    assert words[words.index("-o") + 1] == str(out)
    words[words.index("-o") + 1] = str(world.here / "again")
    assert run(*words).status == 0
    assert all(torch.equal(values, first[name]) for name, values in weights(world.here / "again").items())


MEASURES = ("accuracy", "loss", "calibration_error", "samples")


def test_eval_measures_every_model(world: World, run: Run) -> None:
    ran = run("eval", world.a, world.b, "--data", world.images)
    assert (ran.status, ran.err) == (0, "")
    assert all(str(path) in ran.out for path in (world.a, world.b)), "a path is folded"
    found = by_path(run("eval", world.a, world.b, "--data", world.images, "--json"))
    assert list(found) == [str(world.a), str(world.b)]
    assert {(each["data"], each["split"]) for each in found.values()} == {(str(world.images), None)}
    assert f"measured on {world.images}\n" in ran.out
    assert all(f"{each['accuracy']:.2%}" in ran.out and f"{each['loss']:.4f}" in ran.out for each in found.values())
    assert [each["samples"] for each in found.values()] == [12, 12]
    again = by_path(run("eval", world.a, world.b, "--data", world.images, "--batch-size", 5, "--json"))
    for name, each in found.items():
        assert {measure: again[name][measure] for measure in MEASURES} == pytest.approx(
            {measure: each[measure] for measure in MEASURES}
        )
        low, high = each["intervals"]["accuracy"]
        assert low <= each["accuracy"] <= high
        assert [grades["support"] for grades in each["classes"].values()] == [6, 6]
    (apart,) = found[str(world.a)]["against"]
    assert apart["path"] == str(world.b)
    assert apart["loss"] == pytest.approx(found[str(world.a)]["loss"] - found[str(world.b)]["loss"])
    assert "against" not in found[str(world.b)]
    one_line(run("eval", world.a, world.a, "--data", world.images), [str(world.a), "twice"])
    classes = run("eval", world.a, "--data", world.images, "--classes").out
    assert all(name in classes and name not in ran.out for name in ("precision", "recall"))
    some = by_path(run("eval", world.a, "--data", world.images, "--limit", 3, "--json"))
    assert some[str(world.a)]["samples"] == 3


def test_eval_of_what_overflows_is_still_json(world: World, run: Run) -> None:
    huge = world.edited(
        lambda tensors: [tensors[f"{name}.weight"].mul_(1e30) for name in ("vit.layernorm", "classifier")]
    )
    ran = run("eval", huge, "--data", world.images, "--json")
    assert ran.status == 0, ran
    strict(ran.out)
    assert by_path(ran)[str(huge)]["loss"] is None


@pytest.mark.parametrize("name", ["line.png", "line.SVG"])
def test_path_walks_and_plots(name: str, world: World, run: Run) -> None:
    plot = world.here / name
    ran = run("path", world.a, world.b, "--data", world.images, "--points", 4, "--plot", plot)
    assert (ran.status, ran.err) == (0, "")
    assert "barrier" in ran.out
    assert plot.read_bytes()[:5] in (b"\x89PNG\r", b"<?xml")
    assert [path.name for path in world.here.iterdir()] == [name]
    line = strict(run("path", world.a, world.b, "--data", world.images, "--points", 4, "--json").out)
    assert isinstance(line, dict)
    assert line["positions"] == pytest.approx([0, 1 / 3, 2 / 3, 1])
    assert f"barrier {line['barrier']:.4f}" in ran.out
    alone = by_path(run("eval", world.a, world.b, "--data", world.images, "--json"))
    ends = [alone[str(path)]["loss"] for path in (world.a, world.b)]
    assert [line["points"][0]["loss"], line["points"][-1]["loss"]] == pytest.approx(ends, rel=1e-4)


def test_a_plot_that_cannot_be_written_leaves_nothing(world: World, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def half(lines: object, target: Path) -> None:
        target.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("transfuse.report.plots.save_path_plot", half)
    old = world.file("line.png", "old")
    ran = run("path", world.a, world.b, "--data", world.images, "--points", 3, "--plot", old)
    one_line(ran, ["line.png", "No space left"])
    assert world.listing() == {"line.png": b"old"}


def test_names_are_shown_as_they_are(world: World, run: Run) -> None:
    """Neither markup nor emoji nor a control character of a name is interpreted."""
    odd = world.here / "[bold] :smile: \x1b[31mred"
    odd.mkdir()
    for path in world.a.iterdir():
        (odd / path.name).write_bytes(path.read_bytes())
    ran = run("eval", odd, "--data", world.images)
    assert ran.status == 0, ran
    assert "[bold] :smile: \\x1b[31mred" in ran.out
    assert "\x1b" not in ran.out
    missing = run("eval", world.here / "\x1b[31m\nred", "--data", world.images)
    one_line(missing, ["\\x1b[31m red", "no such directory"])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("fuse", "A", "B", "--lr", "1"), ["--lr", "did you mean --learning-rate?"]),
        (("fuse", "A", "B", "-o", "x", "--dtype", "fp16"), ["did you mean float16?"]),
        (("fuse", "A", "B", "-o", "x", "--merge", "ties"), ["give --base", "fine-tuned from"]),
        (("fuse", "A", "B", "--data", "x", "--data=y"), ["--data is given twice"]),
        (("merge", "A", "B"), ["did you mean fuse?"]),
    ],
)
def test_what_others_call_it(given, said, run: Run) -> None:
    one_line(run(*given), said)
