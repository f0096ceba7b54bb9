"""Odd but honest requests: the same model twice, one sample, many classes, strange names, other precisions."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from cli_inputs import Run, World, by_path, one_line, vit
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

ODD = "a|b <script>alert(1)<_script> `x` \x1b[31m\n# [m](u) {{ 7 * 7 }} é\u202e"


def tensors(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "model.safetensors")


@pytest.mark.parametrize("align", ["none", "flow", "exact"])
def test_a_model_with_itself_is_the_model(align: str, world: World, run: Run) -> None:
    more = ("--flow.plan", "hard") if align == "flow" else ()
    assert run("fuse", world.a, world.a, "-o", world.here / "out", "--align", align, *more).status == 0
    pixels = torch.randn(5, 1, 8, 8)
    found, due = (said(folder, pixels) for folder in (world.here / "out", world.a))
    torch.testing.assert_close(found, due, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def said(folder: Path, pixels: Tensor) -> Tensor:
    from transfuse.checkpoint.reading.load import load_model

    return load_model(folder)(pixel_values=pixels).logits


def test_a_model_with_itself_by_samples(world: World, run: Run) -> None:
    """The default: fitted layers have nothing to improve, and must not get worse."""
    assert run("fuse", world.a, world.a, "-o", world.here / "out", "--data", world.images).status == 0
    assert all(values.isfinite().all() for values in tensors(world.here / "out").values())


@pytest.mark.parametrize("kind", ["constant", "dead"])
@pytest.mark.parametrize("more", [("--align", "flow"), ("--match-on", "both", "--merge", "mean"), ()])
def test_units_that_are_the_same_for_every_sample(kind: str, more: tuple[str, ...], world: World, run: Run) -> None:
    """Half the hidden units of both models say one number whatever they see, or nothing."""

    def still(found: dict[str, Tensor]) -> None:
        for name, values in found.items():
            if "fc1" in name or "intermediate" in name:
                half = len(values) // 2
                values[:half] = 0.0 if name.endswith("weight") else (2.0 if kind == "constant" else -50.0)

    one = world.edited(still).rename(world.here / "one")
    found = tensors(world.a)
    still(found)
    two = world.damaged(lambda copy: save_file(found, copy / "model.safetensors", {"format": "pt"}))
    ran = run("fuse", one, two, "-o", world.here / "out", "--data", world.images, *more)
    assert (ran.status, ran.err) == (0, "")
    assert all(values.isfinite().all() for values in tensors(world.here / "out").values())


def test_one_calibration_sample(world: World, run: Run) -> None:
    """Enough to align by; too few to fit by and to choose by, which is said."""
    given = ["fuse", world.a, world.b, "-o", world.here / "out", "--data", world.images, "--samples", 1]
    one_line(run(*given), ["least squares", "at least two samples"])
    assert not (world.here / "out").exists()
    for align in ("flow", "exact"):
        ran = run(*given[:4], world.here / align, *given[5:], "--align", align, "--merge", "mean")
        assert (ran.status, ran.err) == (0, "")


def test_a_hundred_classes_with_a_sample_each(world: World, run: Run) -> None:
    generator, folder = np.random.default_rng(0), world.here / "images"
    for label in range(100):
        (folder / f"class {label:02}").mkdir(parents=True)
        Image.fromarray(generator.integers(0, 256, (8, 8)).astype(np.uint8)).save(
            folder / f"class {label:02}" / "0.png"
        )
    pair = [vit(world.here / name, seed, num_labels=100) for seed, name in enumerate("ab")]
    names = {str(label): f"class {label:02}" for label in range(100)}
    for each in pair:
        config = json.loads((each / "config.json").read_text()) | {"id2label": names}
        (each / "config.json").write_text(json.dumps(config))
    assert run("fuse", *pair, "-o", world.here / "out", "--data", folder).status == 0
    measured = run("eval", world.here / "out", "--data", folder, "--json")
    assert by_path(measured)[str(world.here / "out")]["samples"] == 100


def test_names_that_would_break_a_page(world: World, run: Run) -> None:
    other = Path(world.damaged(lambda copy: None).rename(world.here / ODD))
    ran = run("fuse", world.a, other, "-o", world.here / "<b>out", "--align", "none")
    assert (ran.status, ran.err) == (0, "")
    card = (world.here / "<b>out" / "README.md").read_text(encoding="utf-8")
    _, front, body = card.split("---\n", 2)
    assert yaml.safe_load(front)["tags"][0] == "transfuse"
    before, _, after = body.partition("```")
    shown = before + after.rpartition("```")[2]  # what stands in a block of code is shown as it is
    assert "<script>" not in shown
    assert "<b>" not in shown
    assert "\x1b" not in shown
    assert "49" not in "".join(line for line in shown.splitlines() if "Versions" not in line)
    one_line(run("fuse", other, world.here / "no\x1b[2Jwhere\n", "-o", world.here / "x"), ["no\\x1b[2Jwhere"])


def test_models_named_as_options_are(world: World, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(world.damaged(lambda copy: None).rename(world.here / "seed").parent)
    job = world.file("job.yaml", f"models: [anchor, '{world.b}']\noutput: out\n")
    for arguments in (("fuse", "anchor", world.b, "-o", "out"), ("fuse", "--config", job)):
        one_line(run(*arguments), ["transfuse: anchor: no such directory"])
    one_line(run("eval", "./seed", "seed", "--data", world.images), ["transfuse: seed: given twice"])


@pytest.mark.parametrize("more", [("--align", "flow"), ("--align", "exact"), ("--align", "learned", "--steps", 2)])
def test_models_of_different_precision(more: tuple[object, ...], world: World, run: Run) -> None:
    precise = world.edited(lambda found: found.update({name: values.double() for name, values in found.items()}))
    for index, pair in enumerate(([world.a, precise], [precise, world.a])):
        ran = run("fuse", *pair, "-o", world.here / str(index), "--data", world.images, *more)
        assert (ran.status, ran.err) == (0, "")
    kinds = [tensors(world.here / str(index))["classifier.weight"].dtype for index in (0, 1)]
    assert kinds == [torch.float32, torch.float64]


DOUBLED: dict[str, Callable[[str], str]] = {
    "config.json": lambda text: text.replace("{", '{"hidden_size": 16, ', 1),
    "nested": lambda text: text.replace("{", '{"id2label": {"0": "a", "0": "b"}, ', 1),
}


@pytest.mark.parametrize("how", DOUBLED)
def test_a_key_given_twice_in_a_configuration(how: str, world: World, run: Run) -> None:
    def edit(copy: Path) -> None:
        (copy / "config.json").write_text(DOUBLED[how]((copy / "config.json").read_text()))

    one_line(run("fuse", world.a, world.damaged(edit), "-o", world.here / "out"), ["config.json", "is given twice"])


def test_a_key_given_twice_in_a_header_or_an_index(world: World, run: Run) -> None:
    """The library that reads headers takes the last of them, and no word of the other."""

    def edit(copy: Path) -> None:
        file = copy / "model.safetensors"
        data = file.read_bytes()
        end = 8 + int.from_bytes(data[:8], "little")
        first = data[8:end].split(b"},")[1] + b"},"
        header = data[8:end].rstrip().replace(first, first + first, 1)
        file.write_bytes(len(header).to_bytes(8, "little") + header + data[end:])

    copy = world.damaged(edit)
    one_line(run("fuse", world.a, copy, "-o", world.here / "out"), ["model.safetensors", "is given twice"])
    (copy / "model.safetensors").rename(copy / "x.safetensors")
    (copy / "model.safetensors.index.json").write_text('{"weight_map": {"a": "x.safetensors", "a": "y.safetensors"}}')
    one_line(run("fuse", world.a, copy, "-o", world.here / "out"), ["index.json", "'a' is given twice"])


def test_impossible_numbers_in_a_configuration(world: World, run: Run) -> None:
    """Each would be built before it is found wrong: for hours, or in all the memory there is."""
    for name, value in (("num_hidden_layers", 10**9), ("num_hidden_layers", 60), ("num_labels", 10**9)):
        copy = world.damaged(lambda each: None)
        config = json.loads((copy / "config.json").read_text()) | {name: value}
        (copy / "config.json").write_text(json.dumps(config))
        one_line(run("fuse", world.a, copy, "-o", world.here / "out"), [name, str(value), "correct the file"])
        copy.rename(world.here / f"{name}-{value}")


def test_a_job_file_that_would_fill_the_memory(world: World, run: Run) -> None:
    lines = ["seed: &a [x, x, x, x, x, x, x, x, x]"]
    lines += [f"{after}: &{after} [{', '.join([f'*{before}'] * 9)}]" for before, after in zip("abcdefgh", "bcdefghi")]  # noqa: B905
    job = world.file("job.yaml", "\n".join(lines) + "\nmodels: *i\n")
    ran = run("fuse", "--config", job)
    one_line(ran, ["job.yaml"])
    assert len(ran.err) < 1200


@pytest.mark.parametrize("flag", ["--data", "--keep"])
def test_an_empty_name_of_samples_is_not_the_current_folder(
    flag: str, world: World, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(world.images)
    a, b, out = world.a, world.b, world.here / "out"
    commands: list[tuple[object, ...]] = [("carry", a, b, a, "-o", out, "--data", world.images)]
    if flag == "--data":
        commands = [
            *(("fuse", a, b, "-o", out), ("plan", a, b), ("carry", a, b, a, "-o", out), ("eval", a), ("path", a, b)),
            *(("landscape", a, b, a), ("finetune", a, "-o", out), ("shrink", a, "-o", out), ("report", a)),
            ("doctor", a),
        ]
    for command in commands:
        one_line(run(*command, flag, ""), [f"{flag}: the name is empty; give a file, a folder"])
        one_line(run(*command, f"{flag}="), [f"{flag}: the name is empty"])
    assert world.listing() == {}


def test_an_empty_name_of_samples_in_a_file(world: World, run: Run) -> None:
    job = world.file("job.yaml", f"models: ['{world.a}', '{world.b}']\noutput: '{world.here / 'out'}'\ndata: ''\n")
    one_line(run("fuse", "--config", job), ["job.yaml, line 3: data: ", "at least 1 character, found ''"])
