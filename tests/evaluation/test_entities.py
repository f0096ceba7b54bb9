"""Token classification: words are labeled by their first token, and entities are counted as CoNLL does."""

from pathlib import Path

import pytest
import torch
from datasets import ClassLabel, Dataset, Features, List, Value
from kept_warnings import KeptWarnings
from kinds import SENTENCES, bert, classes, tokenizer
from sklearn.metrics import accuracy_score
from transformers import BertConfig, BertForTokenClassification

import transfuse
from transfuse.data.load import load_samples
from transfuse.data.text.tagged_words import with_tags, word_preparer
from transfuse.errors import DataError
from transfuse.evaluation.kinds.entities import spans, uses_positions

TAGS = ("O", "B-PER", "I-PER", "B-LOC")
WORDS = [[name, "sees", thing, "in", place] for name, thing, place in SENTENCES]
GOLD = [["B-PER", "O", "B-PER", "I-PER", "B-LOC"] for _ in WORDS]


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("B-PER I-PER O B-LOC", [("PER", 0, 2), ("LOC", 3, 4)]),
        ("O I-PER I-PER B-PER", [("PER", 1, 3), ("PER", 3, 4)]),  # an I without a B begins an entity, too
        ("B-PER I-LOC", [("PER", 0, 1), ("LOC", 1, 2)]),
        ("B-PER E-PER S-PER I-PER", [("PER", 0, 2), ("PER", 2, 3), ("PER", 3, 4)]),
        ("B-PER L-PER U-LOC O", [("PER", 0, 2), ("LOC", 2, 3)]),
        ("O O", []),
        ("B I O I B", [("_", 0, 2), ("_", 3, 4), ("_", 4, 5)]),  # without types, as seqeval reads them
    ],
)
def test_spans(tags: str, expected: list[tuple[str, int, int]]) -> None:
    assert list(spans(tags.split())) == expected


def test_without_a_scheme_each_word_counts() -> None:
    assert list(spans(["NOUN", "NOUN", "O"], has_scheme=False)) == [("NOUN", 0, 1), ("NOUN", 1, 2)]


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("O B-PER I-PER", True),
        ("B I O", True),
        ("I O", True),
        ("B I E S O", True),
        ("O B I PER", False),
        ("I", False),  # the name of a class
        ("S L O", False),
        ("NOUN VERB O", False),
    ],
)
def test_a_scheme_may_have_no_types(tags: str, expected: bool) -> None:
    assert uses_positions(tags.split()) == expected


def test_entities_without_types_are_those_of_one_type(tmp_path: Path) -> None:
    entries = []
    for name, end in (("bare", ""), ("typed", "-X")):
        tags = [tag if tag == "O" else tag + end for tag in ("O", "B", "I")]
        folder = bert(tmp_path / name, BertForTokenClassification, 3, **classes(tags))
        rows = [[tags[index] for index in (1, 2, 0, 2, 1)] for _ in WORDS]
        entries.append(transfuse.evaluate(folder, Dataset.from_dict({"tokens": WORDS, "ner_tags": rows})).records()[0])
    assert entries[0]["entity_f1"] == entries[1]["entity_f1"]
    assert entries[0]["classes"] == {"_": entries[1]["classes"]["X"]}
    assert entries[0]["classes"]["_"]["support"] == 3 * len(WORDS)


def layouts() -> dict[str, Dataset]:
    """The same tags as names, as ids of the model, as classes of the data in another order."""
    other = sorted(TAGS)
    features = Features({"words": List(Value("string")), "ner": List(ClassLabel(names=other))})
    return {
        "names": Dataset.from_dict({"tokens": WORDS, "ner_tags": GOLD}),
        "ids": Dataset.from_dict({"tokens": WORDS, "tags": [[TAGS.index(tag) for tag in row] for row in GOLD]}),
        "classes": Dataset.from_dict(
            {"words": WORDS, "ner": [[other.index(tag) for tag in row] for row in GOLD]}, features
        ),
    }


@pytest.mark.parametrize("layout", layouts())
def test_metrics_by_hand(tmp_path: Path, layout: str) -> None:
    folder = bert(tmp_path / "a", BertForTokenClassification, 3, **classes(TAGS))
    entry = transfuse.evaluate(folder, layouts()[layout], batch_size=7).records()[0]
    inputs = tokenizer()(WORDS, is_split_into_words=True, return_tensors="pt")
    with torch.no_grad():
        logits = BertForTokenClassification.from_pretrained(folder)(**inputs).logits[:, 1:-1]  # every word is a token
    predicted = [[TAGS[index] for index in row] for row in logits.argmax(-1).tolist()]
    labels = torch.tensor([[TAGS.index(tag) for tag in row] for row in GOLD])
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten())
    found, gold = (
        {(row, *span) for row, tags in enumerate(rows) for span in spans(tags)} for rows in (predicted, GOLD)
    )
    assert entry["entity_f1"] == pytest.approx(2 * len(found & gold) / (len(found) + len(gold)))
    assert entry["accuracy"] == accuracy_score(*([tag for row in rows for tag in row] for rows in (GOLD, predicted)))
    assert entry["loss"] == pytest.approx(float(loss), rel=1e-4)
    assert entry["samples"] == 5 * len(WORDS)
    assert entry["classes"]["LOC"]["support"] == len(WORDS)


def test_only_the_first_token_of_a_word_is_labeled() -> None:
    data = load_samples(Dataset.from_dict({"tokens": [["annas", "sees"]], "ner_tags": [[1, 0]]}))
    config = BertConfig(vocab_size=20, **classes(TAGS))
    words = tokenizer()
    assert words.tokenize("annas") == ["anna", "##s"]
    (batch,) = with_tags(data).batches(word_preparer(words, config), 4)
    assert batch["labels"].tolist() == [[-100, 1, -100, 0, -100]]


def test_rows_without_tags_are_left_out(tmp_path: Path) -> None:
    folder = bert(tmp_path / "a", BertForTokenClassification, 3, **classes(TAGS))
    rows = [{"tokens": ["anna", "sees"], "ner_tags": tags} for tags in ([1, 0], None, [0, 0])]
    heard = KeptWarnings()
    (found,) = transfuse.evaluate(folder, rows, progress=heard).records()
    assert found["samples"] == transfuse.evaluate(folder, [rows[0], rows[2]]).records()[0]["samples"]
    assert any("1 of 3 samples has no label and is left out" in line for line in heard.lines)


def test_words_without_tags_and_texts_are_prepared_too() -> None:
    prepare = word_preparer(tokenizer(), BertConfig(vocab_size=20))
    assert "labels" not in prepare([{"words": ["anna", "sees"]}])
    assert prepare(["anna sees"])["input_ids"].tolist() == prepare([{"words": ["anna", "sees"]}])["input_ids"].tolist()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({"tokens": [["anna"]], "ner_tags": [["B-PER", "O"]]}, "1 word and 2 tags, that with the words .anna.;"),
        ({"tokens": [["anna"]], "ner_tags": [[9]]}, "label 9, but the model has 4 classes"),
        ({"tokens": [["anna"]], "ner_tags": [["B-CAT"]]}, "'B-CAT' cannot be matched to the model's classes"),
        ({"text": ["anna"]}, "no labels that"),
    ],
)
def test_bad_rows(tmp_path: Path, rows: dict[str, list[object]], message: str) -> None:
    folder = bert(tmp_path / "a", BertForTokenClassification, 3, **classes(TAGS))
    with pytest.raises(DataError, match=message):
        transfuse.evaluate(folder, Dataset.from_dict(rows))
