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
    fused = run("fuse", a, b, "-o", tmp_path / "o", "--data", data, "--merge", "mean").out
    assert "24 samples of split train" in fused
    tuned = run("finetune", a, "-o", tmp_path / "f", "--data", data, "--epochs", 1).out
    assert "of split train" in tuned
    assert f"of {data} (split test)." in tuned
    for command in (["path", a, b], ["landscape", a, b, c]):
        arguments = [*command, "--data", data, "--points", 3]
        assert "(split test)" in run(*arguments).out
        assert json.loads(run(*arguments, "--json").out)["split"] == "test"
