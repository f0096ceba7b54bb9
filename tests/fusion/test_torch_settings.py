"""Settings of torch and random states of the calling program neither change results nor are changed."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from filecmp import cmp
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from comparisons import same_models
from languages import TEXTS

import transfuse

Setting = Any


@contextmanager
def float64_by_default() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    try:
        yield
        assert torch.get_default_dtype() is torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


@contextmanager
def autocast() -> Iterator[None]:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        yield
        assert torch.is_autocast_enabled("cpu")


@contextmanager
def another_device() -> Iterator[None]:
    with torch.device("meta"):
        yield
        assert torch.get_default_device().type == "meta"


@pytest.mark.parametrize("setting", [float64_by_default, autocast, another_device])
def test_settings_of_the_caller_change_no_result(setting: Setting, paths: list[Path], tmp_path: Path) -> None:
    def results() -> list[Any]:
        return [
            transfuse.fuse(paths, TEXTS, merge="least-squares"),
            transfuse.fuse(paths, TEXTS, merge="learned", steps=2),
            transfuse.fuse(paths, align="flow"),
            transfuse.shrink(paths[0], TEXTS, layers=1, steps=1),
            transfuse.finetune(paths[0], TEXTS, epochs=0.1, batch_size=8),
        ]

    expected = results()
    measured = transfuse.evaluate(paths[0], TEXTS)
    held = expected[0].save_adapter(tmp_path / "first", 1)
    streamed = transfuse.fuse(paths, align="flow", stream=True)
    streamed.save(tmp_path / "streamed")
    with setting():
        found = results()
        assert transfuse.evaluate(paths[0], TEXTS).models == measured.models
        assert expected[0].save_adapter(tmp_path / "second", 1) == held
        streamed.save(tmp_path / "again")
    assert cmp(*(tmp_path / name / "model.safetensors" for name in ("streamed", "again")), shallow=False)
    for one, other in zip(expected, found, strict=True):
        assert same_models(one, other), one


def test_fine_tuning_keeps_the_random_states_of_the_caller(paths: list[Path]) -> None:
    def states() -> tuple[Any, ...]:
        numpy = np.random.get_state()
        return random.getstate(), numpy[1].tolist(), numpy[2], torch.get_rng_state().tolist()

    random.seed(7)
    np.random.seed(7)
    torch.manual_seed(7)
    before = states()
    transfuse.finetune(paths[0], TEXTS, epochs=0.1, batch_size=8)
    assert states() == before
