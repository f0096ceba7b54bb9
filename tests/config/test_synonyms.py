"""Another word for a known name, or one that is spelled alike, is answered by the known one."""

import pytest

from transfuse.config.job import Job
from transfuse.config.make import make
from transfuse.config.options import Options
from transfuse.config.synonyms import SYNONYMS, nearest
from transfuse.errors import ConfigError

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


def test_mergekits_words_lead_to_those_here() -> None:
    for written, meant in (("base_model", "'base'"), ("lambda", "'task_scale'"), ("normalize", "'task_weights'")):
        with pytest.raises(ConfigError, match=f"{written}: no such option; did you mean {meant}"):
            make(Options, {written: 1})
    with pytest.raises(ConfigError, match=r"'linear' is not one of .*; did you mean mean\?"):
        make(Options, {"merge": "linear"})
    for kind in (Options, Job):
        with pytest.raises(ConfigError, match="known: ") as caught:
            make(kind, {"zzzz": 1})
        assert str(caught.value).count(" base,") + str(caught.value).endswith(" base") == 1


def test_flags_keep_their_spelling() -> None:
    assert nearest("--lr", ["--learning-rate", "--samples"]) == "--learning-rate"
    assert nearest("fp16", ["float32", "float16", "bfloat16"]) == "float16"


def test_a_synonym_of_something_unknown_is_no_answer() -> None:
    assert all(nearest(word, ["quite", "different"]) is None for word in SYNONYMS)
