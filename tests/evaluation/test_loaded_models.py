"""A loaded model is measured in eval mode and in float32, and is left as it was."""

from pathlib import Path

import pytest
import torch
from kinds import NAMES, SENTENCES, bert, classes, text, tokenizer
from transformers import BertForSequenceClassification

import transfuse
from transfuse.network.model import converted

ROWS = [{"text": text(*sentence), "label": sentence[0]} for sentence in SENTENCES]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    changes = classes(NAMES) | {"pad_token_id": None, "hidden_dropout_prob": 0.5}
    return bert(tmp_path_factory.mktemp("loaded") / "a", BertForSequenceClassification, 1, **changes)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_model_in_training_is_measured_without_dropout(checkpoint: Path, dtype: torch.dtype) -> None:
    model = BertForSequenceClassification.from_pretrained(checkpoint, dtype=dtype).train()
    other = BertForSequenceClassification.from_pretrained(checkpoint, dtype=dtype)
    loaded, again = transfuse.evaluate([model, other], ROWS, processor=checkpoint).records()
    assert loaded["loss"] == again["loss"]
    agreement = transfuse.evaluate([model, other], [row["text"] for row in ROWS], processor=tokenizer()).records()
    assert agreement[0]["agreement_with"][0]["divergence"] == pytest.approx(0, abs=1e-6)
    assert all(module.training for module in model.modules())
    assert {parameter.dtype for parameter in model.parameters()} == {dtype}
    assert (model.config.pad_token_id, model.config.dtype) == (None, dtype)


def test_weights_are_copied_only_if_they_are_converted(checkpoint: Path) -> None:
    model = BertForSequenceClassification.from_pretrained(checkpoint, dtype=torch.float32).train()
    same = converted(model, torch.float32, model.device)
    assert not any(module.training for module in same.modules())
    assert same.classifier.weight is model.classifier.weight
    assert same.config is not model.config
    other = converted(model, torch.float64, model.device)
    assert (other.dtype, model.dtype) == (torch.float64, torch.float32)
