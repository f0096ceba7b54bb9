"""Arguments of Python functions that are no models, no processor or no number of samples are refused in one line."""

import os
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from kinds import NAMES, bert, classes
from transformers import BertForSequenceClassification

import transfuse
from transfuse.errors import ConfigError

ROWS = [{"text": f"{name} sees boats", "label": name} for name in NAMES]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bert(tmp_path_factory.mktemp("given") / "a", BertForSequenceClassification, 1, **classes(NAMES))


@pytest.mark.parametrize("limit", [0, 2.5, "x", True])
def test_a_limit_is_a_number_of_samples(checkpoint: Path, limit: Any) -> None:
    with pytest.raises(ConfigError, match=rf"^limit: should be .*, found {re.escape(repr(limit))}$"):
        transfuse.evaluate(checkpoint, ROWS, limit=limit)


@pytest.mark.parametrize("processor", [5, [], torch.nn.Linear(1, 1)])
def test_a_processor_prepares_samples(checkpoint: Path, processor: Any) -> None:
    with pytest.raises(ConfigError, match=rf"^processor: found {type(processor).__name__}; give an image processor"):
        transfuse.evaluate(checkpoint, ROWS, processor=processor)
    with pytest.raises(ConfigError, match=r"^processor: found"):
        transfuse.fuse([checkpoint, checkpoint], ROWS, processor=processor)
    with pytest.raises(ConfigError, match=r"^processor: found"):
        transfuse.shrink(checkpoint, ROWS, processor=processor, ratio=0.5)
    with pytest.raises(ConfigError, match=r"^processor: found"):
        transfuse.finetune(checkpoint, ROWS, processor=processor)


@pytest.mark.parametrize(("models", "shown"), [(5, "5"), ([5], "5"), (torch.nn.Linear(1, 1), "a Linear")])
def test_a_model_is_one(models: Any, shown: str) -> None:
    with pytest.raises(ConfigError, match=rf"^{shown}: give the path of a checkpoint"):
        transfuse.evaluate(models, ROWS)


def test_a_model_given_by_two_paths_is_given_twice(checkpoint: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(checkpoint)
    given = [str(checkpoint), checkpoint, f"{checkpoint}{os.sep}", os.path.relpath(checkpoint), link]
    for first, second in pairwise(given):
        with pytest.raises(ConfigError, match=r"given twice.*; give it once"):
            transfuse.evaluate([first, second], ROWS)
    with pytest.raises(ConfigError, match=r"link: given twice, as .*a too; give it once"):
        transfuse.evaluate([checkpoint, link], ROWS)
    with pytest.raises(ConfigError, match=r"^org/model: given twice; give it once"):
        transfuse.evaluate(["org/model", "org/model"], ROWS)
