"""Fields of a card's front matter change one by one; everything that a person wrote stays as it is."""

import pytest

from transfuse.checkpoint.cards.front_matter import front_matter, with_fields

CARD = """\
---
license: mit  # as the parents
metrics:
- accuracy

tags: [transfuse, "a: b"]
model-index:
  - name: old
    results: []
language:
- en
---

# A title

metrics: not a field
---
"""


def test_a_field_is_replaced_and_others_keep_their_lines() -> None:
    edited = with_fields(CARD, {"metrics": ["f1"], "model-index": None, "new": {"a": [1]}})
    assert edited is not None
    assert front_matter(edited) == {
        "license": "mit",
        "tags": ["transfuse", "a: b"],
        "language": ["en"],
        "metrics": ["f1"],
        "new": {"a": [1]},
    }
    assert 'license: mit  # as the parents\ntags: [transfuse, "a: b"]\nlanguage:\n- en\n' in edited
    assert edited.endswith(CARD[CARD.index("\n# A title") :])
    assert with_fields(edited, {"metrics": ["f1"]}) is not None
    assert with_fields("---\n'a': 1\n\"b\": 2\n---\n", {"b": 3}) == "---\n'a': 1\nb: 3\n---\n"


@pytest.mark.parametrize(
    "card",
    [
        "# no front matter\n",
        "---\nbroken: [\n---\n",
        "---\n{metrics: [accuracy], tags: [transfuse]}\n---\n",
        "---\ntags: &names [a]\nmetrics: &others\n- b\nmore: *others\n---\n",
    ],
)
def test_what_cannot_be_edited_by_lines_is_left_alone(card: str) -> None:
    assert with_fields(card, {"metrics": ["f1"]}) is None


@pytest.mark.parametrize(
    "card", ["", "---\n- a\n---\n", "---\na: [\n---\n", "---\na: 1\n", f"---\n{'[' * 9999}\n---\n"]
)
def test_without_fields_there_are_none(card: str) -> None:
    assert front_matter(card) == {}
