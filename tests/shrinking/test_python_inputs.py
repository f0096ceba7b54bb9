"""What Python programs pass to `shrink`: processors and models by path, counts of NumPy, results as models."""

from pathlib import Path
from typing import Any

import numpy
import pandas
import pytest
import torch
from languages import TEXTS, gpt2, saved

import transfuse
from transfuse.checkpoint.reading.load import load_model
from transfuse.errors import MemoryLimitError

QUICK: dict[str, Any] = {"effort": "quick", "samples": 8}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("model"), gpt2, 0)


def test_a_processor_and_a_model_by_path_and_a_count_of_numpy(path: Path, tmp_path: Path) -> None:
    layers: Any = numpy.int64(1)
    small = transfuse.shrink(load_model(path), TEXTS, processor=str(path), layers=layers, **QUICK).save(tmp_path / "s")
    assert (small / "tokenizer_config.json").is_file()
    like = transfuse.shrink(path, TEXTS, like=small, **QUICK)
    assert like.record["sizes"]["small"]["layers"] == 1
    assert like.model.generation_config.max_new_tokens == 7


def test_a_table_in_memory_may_have_a_column_of_any_name(path: Path, tmp_path: Path) -> None:
    table = pandas.DataFrame({"text": TEXTS, "source": "web"})
    small = transfuse.shrink(path, table, layers=1, **QUICK)
    assert small.record["data"] == "dataset in memory"
    assert "dataset in memory" in (small.save(tmp_path / "s") / "README.md").read_text()


def test_a_processor_by_path_is_saved_with_a_fusion(path: Path, tmp_path: Path) -> None:
    models = [load_model(path), load_model(path)]
    fusion = transfuse.fuse(models, TEXTS, processor=path, merge="least-squares", align="none")
    assert (fusion.save(tmp_path / "f") / "tokenizer_config.json").is_file()


def test_two_samples_are_enough_to_choose_sizes(path: Path) -> None:
    assert len(transfuse.shrink(path, TEXTS[:2], ratio=0.8, **QUICK).record["tried_sizes"]) > 1


def test_the_memory_may_be_limited(path: Path) -> None:
    with pytest.raises(MemoryLimitError, match="max_memory: shrinking takes about"):
        transfuse.shrink(path, TEXTS, layers=1, max_memory="1MB", **QUICK)
    assert transfuse.shrink(path, TEXTS, layers=1, max_memory="64GB", **QUICK).record["sizes"]["small"]["layers"] == 1


def test_messages_are_one_line_in_the_words_of_python(path: Path) -> None:
    small = transfuse.shrink(path, TEXTS, layers=1, **QUICK)
    given: Any = small
    calls: list[tuple[Any, list[str]]] = [
        (lambda: transfuse.shrink(given, TEXTS, layers=1), ["model", ".model", "Shrunk"]),
        (lambda: transfuse.finetune(given, TEXTS), ["model", ".model", "Shrunk"]),
        (lambda: transfuse.fuse([given, given]), ["models", ".model"]),
        (lambda: transfuse.evaluate({"small": small.model}, TEXTS), ["models", "list"]),  # type: ignore[dict-item]
        (lambda: transfuse.shrink(path, layers=1), ["data='generated'"]),
        (lambda: transfuse.shrink(path, TEXTS), ["no size given", "hidden_size"]),
        (lambda: transfuse.shrink(path, TEXTS, like=small.model), ["like", "path", "GPT2LMHeadModel"]),
        (lambda: transfuse.shrink(path, TEXTS, layers=1, effort="quick", learning_rate=0.1), ["effort quick"]),
        (lambda: transfuse.fuse([path, path], options=transfuse.Options()), ["options", "**options.model_dump"]),
    ]
    for call, words in calls:
        with pytest.raises(transfuse.ConfigError) as caught:
            call()
        message = str(caught.value)
        assert "\n" not in message
        assert "--" not in message
        assert [word for word in words if word not in message] == [], message


def test_random_numbers_of_the_caller_go_on(path: Path) -> None:
    before = torch.get_rng_state()
    transfuse.shrink(path, TEXTS, layers=1, **QUICK)
    assert torch.equal(torch.get_rng_state(), before)


def test_texts_without_a_token_to_predict_are_named(path: Path) -> None:
    with pytest.raises(transfuse.DataError, match="no text with a token to predict"):
        transfuse.shrink(path, ["a"] * 5, layers=1, **QUICK)
