"""`transfuse report` aligns on the samples of the fusion, or not at all."""

import json
from pathlib import Path
from typing import Any

import pytest
from cli_inputs import Run, one_line
from datasets import Dataset, DatasetDict
from kinds import NAMES, SENTENCES, bert, classes, jsonl, text
from languages import gpt2, saved
from transformers import BertForSequenceClassification

import transfuse

ROWS = [{"text": text(*row), "label": row[0]} for row in SENTENCES]
FLOW = ("--align", "flow", "--merge", "mean")
REFUSED = ["its samples differ from those that the fusion was matched on", "transfuse eval"]


@pytest.fixture
def models(tmp_path: Path) -> list[Path]:
    names = classes(NAMES)
    return [bert(tmp_path / str(seed), BertForSequenceClassification, seed, **names) for seed in range(2)]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return jsonl(tmp_path / "d.jsonl", ROWS)


def record(out: Path) -> dict[str, Any]:
    return dict(json.loads((out / "transfuse.json").read_text()))


def test_other_samples_are_refused(models: list[Path], data: Path, tmp_path: Path, run: Run) -> None:
    out = tmp_path / "out"
    assert run("fuse", *models, "-o", out, "--data", data, *FLOW).status == 0
    assert len(record(out)["samples_sha256"]) == 64
    assert run("report", out, "--batch-size", 5).status == 0, "batches of another size hold the same samples"
    page = (out / "report.html").read_bytes()
    jsonl(data, ROWS[:10])
    whole = jsonl(tmp_path / "whole.jsonl", ROWS)  # which only says what to measure on
    one_line(run("report", out, "--data", whole), [str(data), *REFUSED, "24 samples then, 10 now"])
    jsonl(data, [*ROWS[:-1], {"text": "carl sees boats", "label": "carl"}])
    one_line(run("report", out), [str(data), *REFUSED, "24 samples then, 24 now"])
    assert (out / "report.html").read_bytes() == page


def test_a_record_without_the_hash_is_read_as_before(models: list[Path], data: Path, tmp_path: Path, run: Run) -> None:
    out = tmp_path / "out"
    assert run("fuse", *models, "-o", out, "--data", data, *FLOW).status == 0
    (out / "transfuse.json").write_text(
        json.dumps({name: value for name, value in record(out).items() if name != "samples_sha256"})
    )
    jsonl(data, ROWS[:10])
    assert run("report", out).status == 0


def test_samples_without_a_part_in_the_matching_may_change(
    models: list[Path], data: Path, tmp_path: Path, run: Run
) -> None:
    out = tmp_path / "out"
    assert run("fuse", *models, "-o", out, "--data", data).status == 0
    assert "samples_sha256" not in record(out)
    jsonl(data, ROWS[:10])
    assert run("report", out).status == 0
    assert run("report", out, "--data", jsonl(tmp_path / "other.jsonl", ROWS)).status == 0


def test_texts_by_the_models_are_the_same_again(tmp_path: Path, run: Run) -> None:
    paths = [saved(tmp_path / str(seed), gpt2, seed) for seed in (1, 2)]
    out = tmp_path / "out"
    assert run("fuse", *paths, "-o", out, "--data", "generated", "--samples", 20, *FLOW).status == 0
    assert "samples_sha256" in record(out)
    one_line(run("report", out, "--split", "test"), ["split", "no file of samples", "--data"])
    ran = run("report", out)
    assert ran.status == 0, ran


def test_samples_chosen_in_python(models: list[Path], data: Path, tmp_path: Path, run: Run) -> None:
    """Those of a file are read again, and a part of them cannot be."""
    for name, samples, status in (("whole", str(data), 0), ("part", transfuse.load_samples(data).take(12, 0), 2)):
        fused = transfuse.fuse(models, samples, align="flow", merge="mean")
        ran = run("report", fused.save(tmp_path / name))
        assert ran.status == status, ran
        assert not status or REFUSED[0] in ran.err


def test_what_is_measured_is_read_by_flags_of_its_own(models: list[Path], tmp_path: Path, run: Run) -> None:
    """Neither the split of the fusion counts, nor its columns for other samples."""
    data, out = tmp_path / "d", tmp_path / "out"
    data.mkdir()
    rows = [{"words": row["text"], "who": row["label"], "text": "anna", "label": "carl"} for row in ROWS]
    for split, part in (("train", rows), ("test", rows[:12])):
        jsonl(data / f"{split}.jsonl", part)
    columns = ("--text-column", "words", "--label-column", "who")
    assert run("fuse", *models, "-o", out, "--data", data, "--split", "train", *columns, *FLOW).status == 0

    def measured(*flags: Any) -> tuple[str | None, int]:
        ran = run("report", out, *flags)
        assert ran.status == 0, ran
        found = json.loads((out / "report.json").read_text())["measured"]
        return found["split"], found["rows"][0]["metrics"]["samples"]

    assert measured() == ("test", 12)
    assert measured("--split", "train") == ("train", 24)
    assert measured("--data", jsonl(tmp_path / "other.jsonl", ROWS[:6])) == (None, 6)
    assert measured("--data", jsonl(tmp_path / "others.jsonl", rows[:8]), *columns) == (None, 8)


def test_splits_with_names_of_their_own(models: list[Path], tmp_path: Path, run: Run) -> None:
    data, out = tmp_path / "d", tmp_path / "out"
    DatasetDict({name: Dataset.from_list(ROWS[:count]) for name, count in (("en", 12), ("de", 6))}).save_to_disk(data)
    assert run("fuse", *models, "-o", out, "--data", data, "--split", "de", *FLOW).status == 0
    ran = run("report", out)
    assert ran.status == 0, ran
    assert json.loads((out / "report.json").read_text())["measured"]["split"] == "de"
    assert run("report", out, "--split", "en").status == 0
    assert json.loads((out / "report.json").read_text())["measured"]["split"] == "en"
    one_line(run("report", out, "--split", "fr"), ["no split 'fr'", "en, de"])
    one_line(run("report", out, "--label-column", "who"), ["who"])
