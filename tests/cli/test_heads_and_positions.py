"""`path` and `landscape` take models with other heads or other positions, as `fuse` does."""

import json
from pathlib import Path

import pytest
from cli_inputs import Run
from kinds import NAMES, SENTENCES, bert, classes, jsonl, text
from transformers import BertForSequenceClassification, BertModel


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    return jsonl(tmp_path / "rows.jsonl", [{"text": text(*each), "label": each[0]} for each in SENTENCES])


def classifier(folder: Path, seed: int, names=NAMES, **sizes: int) -> Path:
    return bert(folder, BertForSequenceClassification, seed, **classes(names), **sizes)


@pytest.mark.parametrize("headless", [True, False])
def test_a_model_with_another_head_is_measured_below_the_anchors(
    headless: bool, rows: Path, tmp_path: Path, run: Run
) -> None:
    a = classifier(tmp_path / "a", 1)
    b = bert(tmp_path / "b", BertModel, 2) if headless else classifier(tmp_path / "b", 2, ("x", "y"))
    c = classifier(tmp_path / "c", 3)
    data = ("--data", rows, "--json")
    assert "--head anchor" in run("path", a, b, *data).err
    line = json.loads(run("path", a, b, *data, "--head", "anchor", "--points", 3).out)
    alone = json.loads(run("eval", a, *data).out)[0]
    assert line["points"][0]["loss"] == pytest.approx(alone["loss"], rel=1e-4)
    ends = (line["points"][0]["loss"] + line["points"][2]["loss"]) / 2
    assert line["barrier"] == pytest.approx(max(0, line["points"][1]["loss"] - ends), abs=1e-5)
    plane = json.loads(run("landscape", a, b, c, *data, "--head", "anchor", "--points", 3).out)
    assert plane["models"][0]["metrics"]["loss"] == pytest.approx(alone["loss"], rel=1e-4)
    assert [each["alignment"] for each in plane["models"]] == ["anchor", "aligned", "aligned"]


def test_a_parent_with_another_head_is_measured_below_the_anchors(rows: Path, tmp_path: Path, run: Run) -> None:
    a, b = classifier(tmp_path / "a", 1), bert(tmp_path / "b", BertModel, 2)
    options = ("--data", rows, "--head", "anchor", "--json")
    line = json.loads(run("path", a, b, *options, "--points", 3, "--match-on", "weights").out)
    fused = run("fuse", a, b, "-o", tmp_path / "o", *options, "--merge", "mean", "--match-on", "weights")
    losses = [each["loss"] for each in json.loads(fused.out)["quality"]["models"].values()]
    assert losses[1] == pytest.approx(line["points"][2]["loss"], rel=1e-4)


def test_a_model_with_more_positions_is_measured(rows: Path, tmp_path: Path, run: Run) -> None:
    a = classifier(tmp_path / "a", 1)
    b, c = (classifier(tmp_path / name, seed, max_position_embeddings=30) for seed, name in enumerate("bc", 2))
    data = ("--data", rows, "--json")
    assert "--positions anchor" in run("path", a, b, *data).err
    line = json.loads(run("path", a, b, *data, "--positions", "anchor", "--points", 3).out)
    plane = json.loads(run("landscape", a, b, c, *data, "--positions", "anchor", "--points", 3).out)
    alone = json.loads(run("eval", b, *data).out)[0]
    for found in (line["points"][2], plane["models"][1]["metrics"]):
        assert found["loss"] == pytest.approx(alone["loss"], rel=1e-4)
