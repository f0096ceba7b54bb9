"""Pairs of texts are read together by classifiers, and as two lines by language models."""

import pytest
from datasets import Dataset
from languages import gpt2, saved
from transformers import AutoTokenizer, GPT2Config

from transfuse.data.load import load_samples
from transfuse.data.text.text_pairs import PAIR_NAMES
from transfuse.data.text.texts import causal_preparer, text_preparer
from transfuse.errors import DataError


@pytest.fixture
def tokenizer(tmp_path):
    found = AutoTokenizer.from_pretrained(saved(tmp_path / "model", gpt2, 1))
    found.model_max_length = 100
    found.pad_token = found.eos_token
    return found


@pytest.mark.parametrize("names", PAIR_NAMES)
def test_usual_pairs_are_found(names) -> None:
    samples = load_samples(Dataset.from_dict({names[0]: ["one", "two"], names[1]: ["three", None], "label": [0, 1]}))
    assert samples.inputs([0, 1]) == [["one", "three"], ["two", ""]]
    assert samples.labels().tolist() == [0, 1]
    assert samples.longest_index() == 0


def test_usual_pairs_are_found_without_case() -> None:
    samples = load_samples(Dataset.from_dict({"sentence_A": ["one"], "sentence_B": ["two"], "label": [0]}))
    assert samples.inputs([0]) == [["one", "two"]]


def test_a_pair_that_is_named() -> None:
    data = Dataset.from_dict({"text": ["x"], "a": ["one"], "b": ["two"], "number": [1]})
    assert load_samples(data).inputs([0]) == ["x"]
    assert load_samples(data, text="a, b").inputs([0]) == [["one", "two"]]
    assert load_samples(data.rename_column("a", "a,b"), text="a,b").inputs([0]) == ["one"]
    with pytest.raises(DataError, match=r"no column 'c' \(text_column\)"):
        load_samples(data, text="a,c")
    with pytest.raises(DataError, match=r"column 'number' \(text_column\) holds numbers, not texts"):
        load_samples(data, text="a,number")


def test_both_texts_reach_the_model(tokenizer) -> None:
    pairs = [["one two", "three"], ["four", ""]]
    expected = tokenizer([first for first, _ in pairs], [second for _, second in pairs], padding=True)
    prepared = text_preparer(tokenizer, GPT2Config())(pairs)
    assert prepared["input_ids"].tolist() == expected["input_ids"]
    written = causal_preparer(tokenizer, GPT2Config())(pairs)["input_ids"][0]
    assert tokenizer.decode(written) == "one two\nthree"


def test_reading_pairs_and_instructions_shows_no_progress_bars(capfd) -> None:
    load_samples(Dataset.from_dict({"premise": ["one"], "hypothesis": ["two"]}))
    load_samples(Dataset.from_dict({"instruction": ["one"], "output": ["two"]}))
    assert capfd.readouterr() == ("", "")


def test_a_message_lists_the_columns_of_the_data_only() -> None:
    pairs = load_samples(Dataset.from_dict({"premise": ["one"], "hypothesis": ["two"]}))
    with pytest.raises(DataError, match="no image column among 'premise', 'hypothesis';"):
        pairs.require_images()
