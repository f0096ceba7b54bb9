"""Models whose inputs or computation differ are refused by carry in its own words, with no advice that it refuses."""

import copy
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from cases import BERT, CASES, VIT
from kept_warnings import KeptWarnings
from languages import gpt2, saved
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    GPT2LMHeadModel,
    PreTrainedModel,
    T5EncoderModel,
    ViTConfig,
    ViTForImageClassification,
)

import transfuse
from transfuse.errors import ConfigError
from transfuse.fusion.carrying.plan import carry_plan


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


def tuned_copy(model: PreTrainedModel) -> PreTrainedModel:
    twin = copy.deepcopy(model)
    with torch.no_grad():
        for values in twin.parameters():
            values.add_(0.05 * values.std(correction=0) * torch.randn_like(values))
    return twin


def named(model: PreTrainedModel, names: list[str]) -> PreTrainedModel:
    model.config.id2label = dict(enumerate(names))
    model.config.label2id = {name: index for index, name in enumerate(names)}
    return model


def test_warnings_name_the_tuned_model(tmp_path: Path) -> None:
    """There is no anchor."""
    told = KeptWarnings()
    base, new_base = named(bert(), ["cat", "dog"]), named(bert(), ["dog", "cat"])
    transfuse.carry(base, tuned_copy(base), new_base, progress=told)
    order = "the new base model: id2label names the tuned model's classes in another order"
    assert [line.partition(";")[0] for line in told.lines] == [order]
    told = KeptWarnings()
    base, new = (saved(tmp_path / name, build, 1) for name, build in (("base", gpt2), ("new", lambda n: gpt2(n + 8))))
    tuned_copy(GPT2LMHeadModel.from_pretrained(base)).save_pretrained(tmp_path / "tuned")
    AutoTokenizer.from_pretrained(base).save_pretrained(tmp_path / "tuned")
    transfuse.carry(base, tmp_path / "tuned", new, progress=told)
    assert len(told.lines) == 1
    assert f", that of {tmp_path / 'tuned'} is " in told.lines[0]


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("AlbertForMaskedLM", {"num_hidden_layers": 4}, "the tuned model: has 3 blocks, the new base model has 4, and"),
        ("T5ForConditionalGeneration", None, "the new base model: its base_model is T5EncoderModel, that of the base"),
    ],
)
def test_what_cannot_be_brought_into_one_form(name: str, changes: dict[str, int] | None, message: str) -> None:
    case = next(case for case in CASES if case.name == name)
    base = case.build(1)
    new_base = T5EncoderModel(base.config) if changes is None else case.build(2, **changes)
    with pytest.raises(ConfigError, match=message) as refused:
        transfuse.carry(base, tuned_copy(base), new_base)
    assert "anchor" not in str(refused.value)
    assert "fuse" not in str(refused.value)
