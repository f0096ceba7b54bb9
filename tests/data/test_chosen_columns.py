"""The split and the columns that a user names."""

import pytest
from datasets import Dataset, DatasetDict
from languages import TEXTS

from transfuse.config.make import make
from transfuse.config.options import Options
from transfuse.data.column_kinds import is_number
from transfuse.data.files.splits import CALIBRATION
from transfuse.data.load import load_samples, open_samples
from transfuse.data.parts import label_part
from transfuse.errors import DataError, NoLabelsError

ROWS = [{"title": f"title {row}", "body": text, "kind": row % 3, "other": 0} for row, text in enumerate(TEXTS)]


def opened(data: object, **options: str):
    return open_samples(data, make(Options, options), CALIBRATION)


def test_named_columns_are_read() -> None:
    data = Dataset.from_list(ROWS)
    assert opened(data).text is None  # which of the two is the text?
    samples = opened(data, text_column="body", label_column="kind")
    assert samples.inputs([0]) == TEXTS[:1]
    assert samples.labels().tolist() == [row["kind"] for row in ROWS]


def test_a_named_split_is_read() -> None:
    data = DatasetDict({name: Dataset.from_dict({"text": [name]}) for name in ("train", "test", "extra")})
    assert opened(data).inputs([0]) == ["train"]
    assert opened(data, split="extra").inputs([0]) == ["extra"]
    with pytest.raises(DataError, match=r"no split 'dev'; it has train, test, extra"):
        opened(data, split="dev")


def test_a_message_lists_the_first_of_many_columns() -> None:
    samples = opened(Dataset.from_dict({"text": TEXTS} | {f"tag {number}": TEXTS for number in range(50)}))
    with pytest.raises(NoLabelsError, match=r"no column that holds tags among 'text', .* and 43 more; name that"):
        label_part(samples, ("tags",), is_number, "tags")


def splits(*names: str) -> DatasetDict:
    return DatasetDict({name: Dataset.from_dict({"text": [name]}) for name in names})


@pytest.mark.parametrize(
    ("names", "measured", "fused"),
    [
        (("train", "eval"), "eval", "train"),
        (("train", "validation_matched"), "validation_matched", "train"),
        (("train_sft", "test_sft"), "test_sft", "train_sft"),
        (("training", "test", "testing_long"), "test", "training"),
    ],
)
def test_splits_of_other_usual_names(names: tuple[str, ...], measured: str, fused: str) -> None:
    assert load_samples(splits(*names)).split == measured
    assert opened(splits(*names)).split == fused


def test_a_split_is_named_by_a_usual_name() -> None:
    assert opened(splits("train", "val"), split="validation").split == "val"
    assert opened(splits("train", "val_extra", "validation"), split="dev").split == "validation"


def test_several_splits_of_one_usual_name_are_joined_if_it_is_named() -> None:
    data = splits("train", "validation_matched", "validation_mismatched")
    samples = opened(data, split="dev")
    assert (samples.inputs([0, 1]), samples.split) == (["validation_matched", "validation_mismatched"], "validation")
    assert opened(data).split == "train"
    with pytest.raises(DataError, match="several splits validation: validation_matched, validation_mismatched; choose"):
        load_samples(data)
    data["validation_matched"] = Dataset.from_dict({"text": [1]})
    with pytest.raises(DataError, match=r"\(split validation\): its splits do not have the same columns"):
        opened(data, split="validation")


def test_a_named_column_must_fit() -> None:
    data = Dataset.from_list(ROWS)
    with pytest.raises(DataError, match=r"no column 'texts' \(text_column\); it has 'title', 'body', 'kind', 'other'"):
        opened(data, text_column="texts")
    with pytest.raises(
        DataError, match=r"column 'kind' \(text_column\) holds numbers, not texts; these hold texts: 'title'"
    ):
        opened(data, text_column="kind")


@pytest.mark.parametrize(
    ("values", "what"),
    [
        ([1, 2], "numbers"),
        ([[1.5], [2.5]], "lists of numbers"),
        ([["a"], ["b", "c"]], "lists of texts"),
        ([[["a"]], [["b"]]], "lists of lists of texts"),
        ([True, False], "booleans"),
        ([{"a": 1}, {"a": 2}], "dicts"),
    ],
)
def test_what_a_column_called_text_holds_is_said(values: list[object], what: str) -> None:
    data = Dataset.from_dict({"text": values, "label": ["a", "b"]})
    with pytest.raises(DataError, match=f"column 'text' holds {what}, not texts; choose a column of texts with text"):
        load_samples(data).require_texts()
    with pytest.raises(DataError, match=rf"'text' \(text_column\) holds {what}, not texts; these hold texts: 'label'"):
        load_samples(data, text="text")
