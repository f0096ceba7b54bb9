"""What is given as a model in memory but has no usable weights, or wraps a model, is refused in one line."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from languages import TEXTS, gpt2, saved
from transformers import AutoConfig, AutoModelForCausalLM, GPT2ForSequenceClassification

import transfuse
from transfuse.errors import ConfigError


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("model") / "a", gpt2, 0)


def quantized(model: torch.nn.Module) -> torch.nn.Module:
    """Return a copy of a model with a layer of packed weights, as `quantize_dynamic` leaves it."""
    model = copy.deepcopy(model)
    model.register_module("packed", Packed())
    return model


class Packed(torch.nn.Module):
    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        destination[f"{prefix}dtype"] = torch.qint8


CALLS: tuple[Callable[[Any, Path], Any], ...] = (
    lambda model, path: transfuse.fuse([path, model]),
    lambda model, path: transfuse.fuse([path, path], base=model, merge="task-arithmetic"),
    lambda model, path: transfuse.carry(path, model, path),
    lambda model, path: transfuse.shrink(model, TEXTS, ratio=0.5),
    lambda model, path: transfuse.finetune(model, TEXTS),
    lambda model, path: transfuse.finetune(path, TEXTS, teachers=[model]),
    lambda model, path: transfuse.evaluate(model, TEXTS, processor=path),
)


@pytest.mark.parametrize("call", CALLS)
def test_models_without_usable_weights(call: Callable[[Any, Path], Any], path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(path)
    cases = {"on the meta device, .* or give its path": copy.deepcopy(model).to("meta")}
    cases["quantized; give the model before it was quantized"] = quantized(model)
    for words, given in cases.items():
        with pytest.raises(ConfigError, match=rf"(model|teacher|base).*: its weights are {words}") as caught:
            call(given, path)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("call", [CALLS[number] for number in (0, 3, 4, 5, 6)])
def test_wrapped_models(call: Callable[[Any, Path], Any], path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(path)
    wrapped = {r"\(\._orig_mod\)": torch.compile(model), r"\(\.module\)": torch.nn.DataParallel(model)}
    for words, given in wrapped.items():
        with pytest.raises(ConfigError, match=f"; give the model inside {words}$"):
            call(given, path)


@pytest.mark.parametrize("call", CALLS)
def test_a_model_that_returns_tuples(call: Callable[[Any, Path], Any], path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(path, return_dict=False)
    with pytest.raises(ConfigError, match=r"(model|teacher|base).*: its config has return_dict false, .*to True$"):
        call(model, path)


def test_the_configuration_of_a_given_model_stays(path: Path) -> None:
    config = AutoConfig.from_pretrained(path, pad_token_id=None)
    models = [GPT2ForSequenceClassification(copy.deepcopy(config)).eval() for _ in range(2)]
    before = [model.config.to_dict() for model in models]
    assert before[0]["pad_token_id"] is None
    transfuse.fuse(models, TEXTS, processor=path, merge="least-squares", align="none")
    transfuse.shrink(models[0], TEXTS, processor=path, layers=1, effort="quick", samples=8)
    assert [model.config.to_dict() for model in models] == before
