"""Commands say which split of the data they read."""

import json
from pathlib import Path

from cli_inputs import Run
from kinds import NAMES, SENTENCES, bert, classes, jsonl, text
from transformers import BertForSequenceClassification

import transfuse
from transfuse.checkpoint.reading.load import load_model


def written(folder: Path) -> Path:
    """A folder with the same labeled texts in two splits."""
    folder.mkdir()
    for split in ("train", "test"):
        jsonl(folder / f"{split}.jsonl", [{"text": text(*each), "label": each[0]} for each in SENTENCES])
    return folder


def test_every_command_says_which_split_it_read(tmp_path: Path, run: Run) -> None:
    a, b, c = (
        bert(tmp_path / name, BertForSequenceClassification, seed, **classes(NAMES)) for seed, name in enumerate("abc")
    )
    data = written(tmp_path / "data")
    fused, tuned, shrunk, carried = (tmp_path / name for name in ("fused", "tuned", "shrunk", "carried"))
    measured = ("--data", data, "--steps", 1, "--report")
    printed = run("fuse", a, b, "-o", fused, "--data", data, "--merge", "mean", "--report").out
    assert "24 samples of split train" in printed
    printed = run("finetune", a, "-o", tuned, "--data", data, "--epochs", 1).out
    assert "of split train" in printed
    assert f"of {data} (split test)." in printed
    printed = run("shrink", a, "-o", shrunk, "--intermediate-size", 8, *measured).out
    assert "24 samples of split train" in printed
    printed = run("carry", a, tuned, b, "-o", carried, *measured, "--keep", data).out
    assert "24 samples of split train and 24 to keep of split train" in printed
    for output in (fused, tuned, shrunk, carried):
        assert f"{data}</code>, split <code>train</code>" in (output / "README.md").read_text()
        assert output == tuned or "data (split train)</span>, 24 samples" in (output / "report.html").read_text()
    for command in (["path", a, b], ["landscape", a, b, c]):
        arguments = [*command, "--data", data, "--points", 3]
        assert "(split test)" in run(*arguments).out
        assert json.loads(run(*arguments, "--json").out)["split"] == "test"


def test_so_do_calls_in_python(tmp_path: Path) -> None:
    a, b = (
        bert(tmp_path / name, BertForSequenceClassification, seed, **classes(NAMES)) for seed, name in enumerate("ab")
    )
    data = written(tmp_path / "data")
    fused = transfuse.fuse([a, b], data, merge="least-squares")
    assert (fused.record["data"], fused.record["calibration_split"]) == (str(data), "train")
    shifted = load_model(a)
    shifted.classifier.bias.data += 1
    carried = transfuse.carry(load_model(a), shifted, b, data=data, keep=data, effort="quick")
    assert carried.record["calibration_split"] == carried.record["keep_split"] == "train"
    assert (carried.record["data"], carried.record["keep"]) == (str(data), str(data))
