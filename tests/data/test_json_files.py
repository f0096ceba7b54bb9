"""JSON files of one object, which may hold the rows under one of its keys."""

import json
from pathlib import Path
from typing import Any

import pytest

from transfuse.data.load import load_samples
from transfuse.data.text.questions import with_answers, with_questions
from transfuse.errors import DataError

ROWS = [{"text": "one text", "label": 1}, {"text": "two texts"}]


def written(path: Path, value: Any, **options: Any) -> Path:
    path.write_text(json.dumps(value, **options), encoding="utf-8")
    return path


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("header", [{}, {"version": "1.1 of the data", "tags": ["a"], "empty": []}])
def test_rows_under_a_key_are_read(header: dict[str, Any], indent: int | None, tmp_path: Path) -> None:
    written(tmp_path / "a.json", {**header, "data": ROWS}, indent=indent)
    written(tmp_path / "b.json", ROWS)
    samples = load_samples(tmp_path)
    assert samples.inputs(range(len(samples))) == ["one text", "two texts"] * 2
    assert samples.dataset.column_names == ["text", "label"]


@pytest.mark.parametrize("answers", [[{"text": "boats", "answer_start": 10}], [], None])
def test_questions_in_articles_are_rows(answers: list[dict[str, Any]] | None, tmp_path: Path) -> None:
    asked = [{"id": number, "question": f"{number}: what"} for number in ("a", "b")]
    if answers is not None:
        asked = [{**question, "is_impossible": not answers, "answers": answers} for question in asked]
    paragraphs = [{"context": "anna sees boats", "qas": asked}, {"context": "nobody asks", "qas": []}]
    articles = [{"title": "one", "paragraphs": paragraphs}, {"title": "two", "paragraphs": []}]
    samples = load_samples(written(tmp_path / "train-v1.1.json", {"version": "1.1", "data": articles}))
    labeled = with_questions(samples) if answers is None else with_answers(samples)
    rows = [{"question": f"{number}: what", "context": "anna sees boats"} for number in ("a", "b")]
    found = [{name: row[name] for name in ("question", "context")} for row in labeled.inputs(range(len(labeled)))]
    assert found == rows
    assert answers is None or [row["answers"] for row in labeled.inputs([0, 1])] == [answers] * 2


def test_files_are_read_in_order(tmp_path: Path) -> None:
    for name, text in {"a": "first", "b": "second", "c": "third"}.items():
        written(tmp_path / f"{name}.json", {"data": [{"text": text}]} if name == "b" else [{"text": text}])
    assert load_samples(tmp_path).inputs(range(3)) == ["first", "second", "third"]


def test_several_lists_of_rows_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "both.json", {"train": ROWS, "held": ROWS, "version": "1"})
    with pytest.raises(DataError, match=r"both\.json: 'train', 'held' each hold rows; write those") as caught:
        load_samples(path)
    assert "\n" not in str(caught.value)


def test_one_object_may_be_a_row(tmp_path: Path) -> None:
    talk = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "hello, you"}]
    tools = [{"type": "function"}]
    samples = load_samples(written(tmp_path / "talk.json", {"id": "7", "messages": talk, "tools": tools}))
    assert (len(samples), samples.text) == (1, "messages")
    assert load_samples(written(tmp_path / "text.json", {"text": "a single text"}, indent=1)).inputs([0]) == [
        "a single text"
    ]
    marked = {"text": "a marked text", "marks": [{"start": 0, "end": 1}]}
    assert load_samples(written(tmp_path / "marked.json", marked, indent=1)).inputs([0]) == ["a marked text"]
    lines = "\n".join(json.dumps({"text": row["text"], "marks": [{"start": 0}]}) for row in ROWS)
    (tmp_path / "lines.json").write_text(lines)
    assert load_samples(tmp_path / "lines.json").inputs([0, 1]) == ["one text", "two texts"]
