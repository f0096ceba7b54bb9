"""A split without labels, such as the test split of GLUE, is passed over if no split was asked for."""

from pathlib import Path

import pytest
from kinds import NAMES, SENTENCES, bert, classes, jsonl, text
from transformers import BertForSequenceClassification

import transfuse
from transfuse.errors import DataError


def test_the_next_split_is_measured_if_no_sample_has_a_label(tmp_path: Path) -> None:
    model = bert(tmp_path / "model", BertForSequenceClassification, 0, **classes(NAMES))
    (tmp_path / "data").mkdir()
    for split in ("train", "validation", "test"):
        rows = [{"text": text(*each), "label": -1 if split == "test" else NAMES.index(each[0])} for each in SENTENCES]
        jsonl(tmp_path / "data" / f"{split}.jsonl", rows)
    (record,) = transfuse.evaluate(model, tmp_path / "data").records()
    assert record["split"] == "validation"
    with pytest.raises(DataError, match="24 of 24 samples have no label"):
        transfuse.evaluate(model, tmp_path / "data", split="test")
    (tmp_path / "data" / "validation.jsonl").unlink()
    (record,) = transfuse.evaluate(model, tmp_path / "data").records()
    assert record["split"] == "train"
    (tmp_path / "data" / "train.jsonl").unlink()
    with pytest.raises(DataError, match="24 of 24 samples have no label"):
        transfuse.evaluate(model, tmp_path / "data")
