"""The split and the columns that a user names."""

import pytest
from datasets import Dataset, DatasetDict
from languages import TEXTS

from transfuse.config.make import make
from transfuse.config.options import Options
from transfuse.data.load import open_samples
from transfuse.data.splits import CALIBRATION
from transfuse.errors import DataError

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


def test_a_named_column_must_fit() -> None:
    data = Dataset.from_list(ROWS)
    with pytest.raises(DataError, match=r"no column 'texts' \(text_column\); it has 'title', 'body', 'kind', 'other'"):
        opened(data, text_column="texts")
    with pytest.raises(DataError, match=r"column 'kind' \(text_column\) holds no texts; these do: 'title', 'body'"):
        opened(data, text_column="kind")
