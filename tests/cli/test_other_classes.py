"""A class that cannot be fused is said to be measured and trained as it is only where that is so."""

from typing import Any

import pytest
import transformers
from transformers import BertConfig

from transfuse.cli.jobs.inspection import check_fusible
from transfuse.errors import SpecError


@pytest.mark.parametrize(
    ("architecture", "settings", "is_taken"),
    [
        ("RoFormerForMaskedLM", {}, True),
        ("CodeGenForCausalLM", {}, True),
        ("BlenderbotForConditionalGeneration", {}, True),
        ("SwinForImageClassification", {}, True),
        ("LlavaForConditionalGeneration", {}, False),
        ("Gemma3ForConditionalGeneration", {}, False),
        ("XLMWithLMHeadModel", {"causal": True}, True),
        ("XLMWithLMHeadModel", {}, False),
        ("FlaubertWithLMHeadModel", {}, False),
        ("XLNetLMHeadModel", {}, False),
        ("XLNetForSequenceClassification", {}, False),
        ("Wav2Vec2ForSequenceClassification", {}, False),
    ],
)
def test_what_is_told(architecture: str, settings: dict[str, Any], is_taken: bool) -> None:
    config = getattr(transformers, architecture).config_class(**settings)
    with pytest.raises(SpecError, match=f"{architecture} .* is not supported") as caught:
        check_fusible(config, architecture)
    assert ("`transfuse finetune` take this model as it is" in str(caught.value)) == is_taken


@pytest.mark.parametrize("architecture", ["JinaBertForMaskedLM", "T5WithLMHeadModel", "LLaMAForCausalLM"])
def test_a_class_that_transformers_does_not_have(architecture: str) -> None:
    with pytest.raises(SpecError, match=f"{architecture} .* is not supported") as caught:
        check_fusible(BertConfig(), architecture)
    assert "transfuse finetune" not in str(caught.value)
