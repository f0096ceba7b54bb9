"""Models of classes that differ in their names alone, such as Llama and Mistral, are fused as those of one class."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from cases import LLAMA
from languages import TEXTS, saved
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoTokenizer,
    CamembertConfig,
    CamembertForMaskedLM,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    RobertaConfig,
    RobertaForMaskedLM,
    XLMRobertaConfig,
    XLMRobertaForMaskedLM,
    XLMRobertaModel,
)

import transfuse
from transfuse.errors import ConfigError

ROBERTA = {
    "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32,
    "max_position_embeddings": 20, "pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0,
}  # fmt: skip


def llama(words: int, cls: Any = LlamaForCausalLM, **changes: Any) -> PreTrainedModel:
    model: PreTrainedModel = cls(LlamaConfig(**{**LLAMA, "vocab_size": words, "pad_token_id": 0, **changes}))
    return model


def mistral(words: int, **changes: Any) -> MistralForCausalLM:
    return MistralForCausalLM(MistralConfig(**{**LLAMA, "vocab_size": words, "sliding_window": None, **changes}))


def roberta(words: int, cls: Any, config: Any) -> PreTrainedModel:
    model: PreTrainedModel = cls(config(**ROBERTA, vocab_size=words))
    return model


MASKED = [
    (RobertaForMaskedLM, RobertaConfig),
    (XLMRobertaForMaskedLM, XLMRobertaConfig),
    (CamembertForMaskedLM, CamembertConfig),
]
ROBERTAS = [partial(roberta, cls=cls, config=config) for cls, config in MASKED]


def logits(model: PreTrainedModel, folder: Path) -> torch.Tensor:
    texts = AutoTokenizer.from_pretrained(folder)(TEXTS[:4], return_tensors="pt", padding=True)
    return model.eval()(**texts).logits[texts.attention_mask == 1]


@pytest.mark.parametrize(
    ("first", "second", "auto"),
    [
        (llama, mistral, AutoModelForCausalLM),
        (mistral, llama, AutoModelForCausalLM),
        *((ROBERTAS[0], other, AutoModelForMaskedLM) for other in ROBERTAS[1:]),
        (ROBERTAS[1], ROBERTAS[0], AutoModelForMaskedLM),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_they_are_fused_as_models_of_the_anchors_class(
    tmp_path: Path, first: Any, second: Any, auto: Any, stream: bool
) -> None:
    a, b = saved(tmp_path / "a", first, 0), saved(tmp_path / "b", second, 1)
    transfuse.fuse([a, b], stream=stream).save(tmp_path / "fused")
    fused = auto.from_pretrained(tmp_path / "fused")
    anchor = auto.from_pretrained(a)
    alike = type(anchor)(anchor.config)
    alike.load_state_dict(auto.from_pretrained(b).state_dict())
    expected = transfuse.fuse([anchor, alike]).model
    assert type(fused) is type(anchor)
    assert (logits(fused, a) - logits(expected, a)).abs().max() < 1e-5


def test_they_learn_from_each_other(tmp_path: Path) -> None:
    a, b = saved(tmp_path / "a", mistral, 0), saved(tmp_path / "b", llama, 1)
    matched = transfuse.match([a, b], TEXTS, merge="learned", steps=2)
    original = logits(AutoModelForCausalLM.from_pretrained(b), a)
    assert (logits(matched.networks[1].model, a) - original).abs().max() < 1e-5


def test_other_heads_and_no_head(tmp_path: Path) -> None:
    a = saved(tmp_path / "a", ROBERTAS[0], 0)
    b = saved(tmp_path / "b", partial(roberta, cls=XLMRobertaModel, config=XLMRobertaConfig), 1)
    c = saved(tmp_path / "c", partial(llama, cls=LlamaForSequenceClassification), 1)
    d = saved(tmp_path / "d", mistral, 0)
    fused = transfuse.fuse([a, b], head="anchor", align="none").model
    own, other = AutoModel.from_pretrained(a), AutoModel.from_pretrained(b)
    for name, values in fused.base_model.named_parameters():
        mean = (own.get_parameter(name) + other.get_parameter(name)) / 2
        assert torch.allclose(values, mean, atol=1e-6), name
    assert isinstance(transfuse.fuse([d, c], head="anchor").model, MistralForCausalLM)
    with pytest.raises(ConfigError, match="is a LlamaForCausalLM, but the anchor is a LlamaForSequenceClassification"):
        transfuse.fuse([c, d])


def test_a_window_that_the_other_class_lacks_is_refused(tmp_path: Path) -> None:
    a, b = saved(tmp_path / "a", llama, 0), saved(tmp_path / "b", partial(mistral, sliding_window=8), 1)
    with pytest.raises(ConfigError, match="b: sliding_window is 8, and a LlamaForCausalLM has no windows; if texts"):
        transfuse.fuse([a, b])
    fused = transfuse.fuse([b, a], settings="anchor").model
    assert fused.config.sliding_window == 8
