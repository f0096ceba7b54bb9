"""What a fusion takes from the cards of its parents, whatever these hold."""

import os
from pathlib import Path

import pytest

from transfuse.checkpoint.cards.parents import card_fields, differing_licenses, license_of
from transfuse.checkpoint.reading.hub_names import hub_name


def fields(folder: Path, header: str) -> dict[str, str | list[str]]:
    (folder / "README.md").write_text(f"---\n{header}\n---\ntext", encoding="utf-8")
    return card_fields(folder)


def test_known_fields_are_taken(tmp_path: Path) -> None:
    header = "license: mit\nlanguage: no\npipeline_tag: fill-mask\ndatasets:\n- a/b\n- 3\nwidget: []\nlicense_link: 4"
    assert fields(tmp_path, header) == {
        "license": "mit",
        "pipeline_tag": "fill-mask",
        "language": ["no"],
        "datasets": ["a/b"],
    }


@pytest.mark.parametrize("header", ["license: [", "license: 3", "- license: mit", "license: {a: b}", "datasets: {}"])
def test_what_is_not_valid_is_left_out(header: str, tmp_path: Path) -> None:
    assert fields(tmp_path, header) == {}


def test_what_is_no_card(tmp_path: Path) -> None:
    assert card_fields(tmp_path) == {}
    (tmp_path / "README.md").write_bytes(b"---\nlicense: mit\n---\n\xff\xfe")
    assert card_fields(tmp_path) == {}
    (tmp_path / "README.md").unlink()
    os.mkfifo(tmp_path / "README.md")
    assert card_fields(tmp_path) == {}, "it waits for a writer"


def test_licenses_differ_if_two_are_stated() -> None:
    def models(*cards: dict[str, str]) -> list[dict[str, object]]:
        return [{"path": name, "card": card} for name, card in zip("abc", cards, strict=False)]

    other = {"license": "other", "license_name": "llama3"}
    assert license_of(other) == "llama3"
    assert license_of({}) is None
    assert differing_licenses(models({"license": "mit"}, other)) == {"a": "mit", "b": "llama3"}
    assert differing_licenses(models({"license": "mit"}, {"license": "MIT"}, {})) == {}
    assert differing_licenses([{"path": None}, {"path": "b", "card": {"license": "mit"}}]) == {}


def test_names_on_the_hub(tmp_path: Path) -> None:
    (tmp_path / "org" / "local").mkdir(parents=True)
    names = ["org/name", "gpt2", "org/local", "/models/a", "./a", "../b", None, "a b", "a/b/c"]
    found = [hub_name(name, str(tmp_path)) for name in names]
    assert found == ["org/name", "gpt2", None, None, None, None, None, None, None]
    assert hub_name("/home/me/.cache/huggingface/hub/models--org--na-me/snapshots/0a1b") == "org/na-me"
    assert hub_name("/cache/models--gpt2/snapshots/0a1b/") == "gpt2"
    assert hub_name("nyu-mll/glue:sst2@v1", str(tmp_path)) == "nyu-mll/glue"
    (tmp_path / "org" / "local@main").mkdir()
    assert [hub_name(name, str(tmp_path)) for name in ("org/name@v1", "gpt2@a/b", "org/local@main")] == [
        "org/name",
        "gpt2",
        None,
    ]
