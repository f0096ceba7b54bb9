"""Another word for a known name, or one that is spelled alike, is answered by the known one."""

import pytest

from transfuse.config.synonyms import SYNONYMS, nearest

OPTIONS = ("batch_size", "learning_rate", "samples", "output")


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("lr", "learning_rate"),
        ("batchsize", "batch_size"),
        ("output-dir", "output"),
        ("BS", "batch_size"),
        ("zzz", None),
    ],
)
def test_nearest(written, meant) -> None:
    assert nearest(written, OPTIONS) == meant


def test_flags_keep_their_spelling() -> None:
    assert nearest("--lr", ["--learning-rate", "--samples"]) == "--learning-rate"
    assert nearest("fp16", ["float32", "float16", "bfloat16"]) == "float16"


def test_a_synonym_of_something_unknown_is_no_answer() -> None:
    assert all(nearest(word, ["quite", "different"]) is None for word in SYNONYMS)
