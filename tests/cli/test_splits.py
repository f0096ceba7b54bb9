"""Commands say which split of the data they read."""

import json
from pathlib import Path

from kinds import NAMES, SENTENCES, bert, classes, jsonl, text
from transformers import BertForSequenceClassification
from world import Run


def test_every_command_says_which_split_it_read(tmp_path: Path, run: Run) -> None:
    a, b, c = (
        bert(tmp_path / name, BertForSequenceClassification, seed, **classes(NAMES)) for seed, name in enumerate("abc")
    )
    data = tmp_path / "data"
    data.mkdir()
    for split in ("train", "test"):
        jsonl(data / f"{split}.jsonl", [{"text": text(*each), "label": each[0]} for each in SENTENCES])
    fused, tuned, shrunk, carried = (tmp_path / name for name in ("fused", "tuned", "shrunk", "carried"))
    measured = ("--data", data, "--steps", 1, "--report")
    printed = run("fuse", a, b, "-o", fused, "--data", data, "--merge", "mean", "--report").out
    assert "24 samples of split train" in printed
    printed = run("finetune", a, "-o", tuned, "--data", data, "--epochs", 1).out
    assert "of split train" in printed
    assert f"of {data} (split test)." in printed
    printed = run("shrink", a, "-o", shrunk, "--intermediate-size", 8, *measured).out
    assert "24 samples of split train" in printed
    printed = run("carry", a, tuned, b, "-o", carried, *measured).out
    assert "24 samples of split train" in printed
    for output in (fused, tuned, shrunk, carried):
        assert f"{data}</code>, split <code>train</code>" in (output / "README.md").read_text()
        assert output == tuned or "data (split train)</span>, 24 samples" in (output / "report.html").read_text()
    for command in (["path", a, b], ["landscape", a, b, c]):
        arguments = [*command, "--data", data, "--points", 3]
        assert "(split test)" in run(*arguments).out
        assert json.loads(run(*arguments, "--json").out)["split"] == "test"
