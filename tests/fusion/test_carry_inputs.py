"""Models whose inputs or computation differ are refused by carry in its own words, with no advice that it refuses."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from cases import BERT, VIT
from languages import gpt2, saved
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    PreTrainedModel,
    ViTConfig,
    ViTForImageClassification,
)

import transfuse
from transfuse.errors import ConfigError
from transfuse.fusion.carrying.requirements import carry_plan


@pytest.mark.parametrize("other", ["new", "base"])
def test_another_tokenizer(tmp_path: Path, other: str) -> None:
    paths = {name: str(saved(tmp_path / name, gpt2, seed)) for seed, name in enumerate(("base", "tuned", "new"))}
    file = Path(paths[other]) / "tokenizer.json"
    content = json.loads(file.read_text())
    words = content["model"]["vocab"]
    first, second = "x", "y"
    words[first], words[second] = words[second], words[first]
    file.write_text(json.dumps(content))
    message = rf"/tuned: its tokenizer differs from that of \S*/{other} in 2 of \d+ tokens; all three models must share"
    for use in (transfuse.carry, carry_plan):
        with pytest.raises(ConfigError, match=message):
            use(paths["base"], paths["tuned"], paths["new"])


def vit(**changes: object) -> PreTrainedModel:
    return ViTForImageClassification(ViTConfig(**{**VIT, **changes}))


def bert(**changes: object) -> PreTrainedModel:
    return BertForSequenceClassification(BertConfig(**{**BERT, **changes}))


@pytest.mark.parametrize(
    ("build", "changes", "message"),
    [
        (vit, {"image_size": 24}, "image_size is 24, that of the tuned model is 12"),
        (
            vit,
            {"hidden_act": "relu"},
            "hidden_act is 'relu', that of the tuned model is 'gelu'",
        ),
        (bert, {"vocab_size": 40}, "vocab_size is 40, that of the tuned model is 31"),
        (bert, {"max_position_embeddings": 9}, "max_position_embeddings is 9, that of the tuned model is 14"),
    ],
    ids=["image_size", "hidden_act", "vocab_size", "max_position_embeddings"],
)
def test_other_inputs(build: Callable[..., PreTrainedModel], changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=f"the new base model: {message}; give three models that take"):
        transfuse.carry(build(), build(), build(**changes))
    with pytest.raises(ConfigError, match=f"the base model: {message}; "):
        transfuse.carry(build(**changes), build(), build())


def test_another_kind_of_classes_is_another_head() -> None:
    """The head of the tuned model is carried, as any other head is."""
    torch.manual_seed(0)
    base, new_base = bert(), bert()
    tuned = bert(problem_type="multi_label_classification")
    tuned.base_model.load_state_dict(base.base_model.state_dict())
    carried = transfuse.carry(base, tuned, new_base).model
    assert carried.config.problem_type == "multi_label_classification"
    torch.testing.assert_close(carried.classifier.bias, tuned.classifier.bias)
