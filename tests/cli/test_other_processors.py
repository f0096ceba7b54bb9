"""Models whose processor is not the anchor's: every command that prepares their samples with the latter says so."""

import json
from pathlib import Path

import pytest
import torch
from cli_inputs import SIZES, Run, World, vit
from kinds import NAMES, SENTENCES, bert, classes, jsonl, text, tokenizer
from transformers import (
    AutoModelForImageClassification,
    BertForSequenceClassification,
    BertTokenizer,
    ViTImageProcessorPil,
)

SIZE = dict.fromkeys(("height", "width"), SIZES["image_size"])
CARD = "<code>other</code> has other settings (<code>image_mean</code>) than the one that prepared all"


@pytest.fixture
def other(world: World) -> Path:
    """A model like `b`, of images in another scale."""
    path = vit(world.here / "other", 7)
    ViTImageProcessorPil(size=SIZE, image_mean=[0.1], image_std=[0.5]).save_pretrained(path)
    return path


def warning(model: Path, anchor: Path, settings: str = "image processor (image_mean)") -> str:
    return (
        f"transfuse: {model}: the settings of its {settings} differ from those of {anchor}, which prepares all samples;"
        " transfuse eval measures each model with its own\n"
    )


def test_no_command_with_samples_is_silent(world: World, run: Run, other: Path) -> None:
    models, data = (world.a, other), ("--data", world.images)
    for arguments in (
        ("path", *models, "--points", 3),
        ("plan", *models),
        ("landscape", *models, world.b, "--points", 3),
        ("carry", world.b, other, world.a, "-o", world.here / "carried", "--dry-run"),
    ):
        ran = run(*arguments, *data)
        assert (ran.status, ran.err) == (0, warning(other, world.a)), arguments
    assert run("plan", *models).err == ""
    assert run("path", world.a, world.b, "--points", 3, *data).err == ""


def test_the_card_and_the_report_say_it_once(world: World, run: Run, other: Path) -> None:
    out = world.here / "out"
    ran = run("fuse", world.a, other, "-o", out, "--data", world.images, "--report")
    assert (ran.status, ran.err) == (0, warning(other, world.a))
    (found,) = json.loads((out / "transfuse.json").read_text())["other_processors"]
    assert found == {"model": str(other), "processor": "image processor", "settings": ["image_mean"]}
    assert (out / "README.md").read_text().count(CARD) == 1
    page = "The image processor of other has other settings (image_mean) than the one that prepared all"
    assert (out / "report.html").read_text().count(page) == 1
    assert run("report", out).err == warning(other, world.a)
    assert (out / "README.md").read_text().count(CARD) == 1


def test_samples_that_only_measure(world: World, run: Run, other: Path) -> None:
    """The fusion did not read them, but its parents are measured on them."""
    out = world.here / "out"
    assert run("fuse", world.a, other, "-o", out).err == ""
    assert CARD not in (out / "README.md").read_text()
    assert run("report", out, "--data", world.images).err == warning(other, world.a)
    assert (out / "README.md").read_text().count(CARD) == 1
    assert "The image processor of other has other settings" in (out / "report.html").read_text()
    assert "other_processors" not in json.loads((out / "transfuse.json").read_text())


def test_a_carried_fine_tune(world: World, run: Run, other: Path) -> None:
    out = world.here / "out"
    tuned = AutoModelForImageClassification.from_pretrained(world.a)
    with torch.no_grad():
        tuned.classifier.weight.mul_(1.5)
    tuned.save_pretrained(other)
    ran = run("carry", world.a, other, world.b, "-o", out, "--data", world.images, "--effort", "quick", "--report")
    assert (ran.status, ran.err) == (0, warning(other, world.b))
    assert (out / "README.md").read_text().count(CARD) == 1
    assert "than the one that prepared all samples" in (out / "report.html").read_text()


def test_tokenizers(tmp_path: Path, run: Run) -> None:
    a, b = (bert(tmp_path / str(seed), BertForSequenceClassification, seed, **classes(NAMES)) for seed in range(2))
    words = BertTokenizer(vocab=tokenizer().get_vocab(), do_lower_case=False)
    words.model_max_length = 24
    words.save_pretrained(b)
    data = jsonl(tmp_path / "d.jsonl", [{"text": text(*row).upper(), "label": row[0]} for row in SENTENCES])
    ran = run("fuse", a, b, "-o", tmp_path / "out", "--data", data)
    assert (ran.status, ran.err) == (0, warning(b, a, "tokenizer (normalizer)"))
