"""Numbers with their nouns, in the singular and the plural."""

import pytest

from transfuse.base.counted import are, counted, have


@pytest.mark.parametrize(
    ("number", "noun", "text"),
    [
        (1, "sample", "1 sample"),
        (0, "sample", "0 samples"),
        (2, "batch", "2 batches"),
        (3, "class", "3 classes"),
        (2, "entry", "2 entries"),
        (2, "key", "2 keys"),
        (1, "class name", "1 class name"),
        (2, "more tensor", "2 more tensors"),
    ],
)
def test_nouns_agree_with_numbers(number: int, noun: str, text: str) -> None:
    assert counted(number, noun) == text


def test_verbs_agree_and_thousands_have_a_comma() -> None:
    assert [f"{counted(number, 'text', ',')} {are(number)}" for number in (1, 2000)] == ["1 text is", "2,000 texts are"]
    assert (have(1), have(2)) == ("has", "have")
