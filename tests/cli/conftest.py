"""Tiny checkpoints and samples, and a way to run the command line in this process."""

import json
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from cli_inputs import Ran, Run, World, vit
from datasets import Dataset, Features, Image, disable_progress_bars
from PIL import Image as Picture
from transformers import ErnieConfig, ErnieForQuestionAnswering
from transformers.utils import logging

from transfuse.cli import main


def picture(label: int, generator: np.random.Generator) -> Picture.Image:
    """8 x 8 grey noise, brighter for class 1."""
    return Picture.fromarray(generator.integers(100 * label, 100 * label + 100, (8, 8)).astype(np.uint8))


@pytest.fixture(scope="session")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What is built once."""
    disable_progress_bars()
    logging.disable_progress_bar()
    root = tmp_path_factory.mktemp("inputs")
    generator = np.random.default_rng(0)
    for label, name in enumerate(["dark", "light"]):
        (root / "images" / name).mkdir(parents=True)
        for index in range(6):
            picture(label, generator).save(root / "images" / name / f"{index}.png")
    features = Features({"image": Image()})
    Dataset.from_dict({"image": [picture(0, generator)] * 6}, features).save_to_disk(root / "bare")
    (root / "words.jsonl").write_text("".join(json.dumps({"text": f"word {index}"}) + "\n" for index in range(4)))
    foreign = ErnieConfig(
        vocab_size=32, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )
    ErnieForQuestionAnswering(foreign).save_pretrained(root / "foreign")
    return {
        "a": vit(root / "a", 1), "b": vit(root / "b", 2), "wide": vit(root / "wide", 3, hidden_size=24),
        "deep": vit(root / "deep", 4, num_hidden_layers=3), "many": vit(root / "many", 5, num_labels=5),
        "large": vit(root / "large", 6, image_size=16), "foreign": root / "foreign", "images": root / "images",
        "bare": root / "bare", "words": root / "words.jsonl",
    }  # fmt: skip


@pytest.fixture
def world(inputs: dict[str, Path], tmp_path: Path) -> World:
    """The inputs and an empty directory."""
    return World(**inputs, here=tmp_path)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs `transfuse` with arguments in this process, whose memory is not bounded: other tests have filled it.

    tests/test_budget.py bounds a process of its own.
    """
    monkeypatch.setattr("transfuse.base.memory_limit.memory_limit", lambda *_: nullcontext())

    def call(*arguments: object) -> Ran:
        monkeypatch.setattr("sys.argv", ["transfuse", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as caught:
            main()
        out, err = capsys.readouterr()
        return Ran(int(caught.value.code or 0), out, err)

    return call
