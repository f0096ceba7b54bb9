"""With --head anchor, models with other heads, other classes or no head are fused below the anchor's head."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from cases import BERT, CLIP_VISION, DEBERTA, GPT2, LLAMA, MODERN, T5, TIED, VIT
from languages import TEXTS, gpt2, saved
from safetensors.torch import load_file
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertModel,
    CLIPVisionConfig,
    CLIPVisionModel,
    CLIPVisionModelWithProjection,
    DebertaV2ForMaskedLM,
    DebertaV2ForSequenceClassification,
    Gemma2ForCausalLM,
    Gemma2ForSequenceClassification,
    GPT2Config,
    GPT2ForSequenceClassification,
    GPT2LMHeadModel,
    GPT2Model,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    ModernBertForMaskedLM,
    ModernBertForSequenceClassification,
    PreTrainedModel,
    T5Config,
    T5ForConditionalGeneration,
    T5ForSequenceClassification,
    ViTConfig,
    ViTForImageClassification,
    ViTModel,
)

import transfuse
from transfuse.errors import ConfigError, SpecError
from transfuse.network.inputs import example_inputs
from transfuse.network.layout import unfused
from transfuse.network.model import declaration, network
from transfuse.network.symmetry import symmetric
from transfuse.verification.self_fusion import symmetric_copy

PAIRS = [  # an anchor, and the class of a source
    (lambda: BertForSequenceClassification(BertConfig(**BERT)), BertForMaskedLM),
    (lambda: BertForMaskedLM(BertConfig(**BERT)), BertForSequenceClassification),
    (lambda: BertModel(BertConfig(**BERT)), BertForSequenceClassification),
    (lambda: BertForQuestionAnswering(BertConfig(**BERT)), BertModel),
    (lambda: ViTForImageClassification(ViTConfig(**VIT)), ViTModel),
    (lambda: GPT2LMHeadModel(GPT2Config(**GPT2)), GPT2Model),
    (lambda: GPT2ForSequenceClassification(GPT2Config(**GPT2)), GPT2LMHeadModel),
    (lambda: LlamaForCausalLM(LlamaConfig(**LLAMA)), LlamaForSequenceClassification),
    (lambda: CLIPVisionModelWithProjection(CLIPVisionConfig(**CLIP_VISION)), CLIPVisionModel),
]


def moved(anchor: PreTrainedModel, source: type[PreTrainedModel]) -> PreTrainedModel:
    """A model of another class, whose trunk is that of the anchor in another basis."""
    original = network(anchor, torch.device("cpu"))
    twin = symmetric_copy(original, symmetric(unfused(declaration(anchor))), 7)
    torch.manual_seed(9)
    model = source(copy.deepcopy(anchor.config)).eval()
    model.base_model.load_state_dict(twin.base_model.state_dict(), strict=False)
    return model


@pytest.mark.parametrize(("build", "source"), PAIRS, ids=lambda given: getattr(given, "__name__", ""))
def test_a_trunk_in_another_basis_is_recovered_below_another_head(build: Any, source: type[PreTrainedModel]) -> None:
    torch.manual_seed(1)
    anchor = build().eval()
    other = moved(anchor, source)
    batch = example_inputs(anchor.config)
    expected = anchor(**batch)[0]
    before = {name: values.clone() for name, values in other.state_dict().items()}
    fused = transfuse.fuse([anchor, other], head="anchor").model
    assert type(fused) is type(anchor)
    assert torch.allclose(fused(**batch)[0], expected, atol=1e-3 * float(expected.abs().max()))
    assert all(torch.equal(values, before[name]) for name, values in other.state_dict().items())
    plain = transfuse.fuse([anchor, other], head="anchor", align="none").model
    assert not torch.allclose(plain(**batch)[0], expected, atol=0.05 * float(expected.abs().max()))


@pytest.mark.parametrize(("build", "source"), PAIRS, ids=lambda given: getattr(given, "__name__", ""))
def test_models_of_one_base_are_not_aligned(build: Any, source: type[PreTrainedModel]) -> None:
    anchor = build().eval()
    other = source(copy.deepcopy(anchor.config)).eval()
    other.base_model.load_state_dict(anchor.base_model.state_dict(), strict=False)
    assert transfuse.fuse([anchor, other], head="anchor").record["shared_base"]["correlation"] == pytest.approx(1)


def test_a_base_without_the_layer_below_the_head() -> None:
    torch.manual_seed(1)
    base = BertForMaskedLM(BertConfig(**BERT)).eval()
    models = []
    for classes in (2, 3):  # each with a pooler of its own
        model = BertForSequenceClassification(BertConfig(**BERT | {"num_labels": classes})).eval()
        model.bert.load_state_dict(base.bert.state_dict(), strict=False)
        model.bert.embeddings.LayerNorm.bias.data += classes
        models.append(model)
    fused = transfuse.fuse(models, base=base, merge="task-arithmetic", head="anchor").model
    assert torch.equal(fused.bert.pooler.dense.weight, models[0].bert.pooler.dense.weight)
    bias = base.bert.embeddings.LayerNorm.bias
    assert torch.allclose(fused.bert.embeddings.LayerNorm.bias, bias + 2 + 3)  # the sum of both task vectors


def classifier(seed: int, classes: int) -> ViTForImageClassification:
    torch.manual_seed(seed)
    return ViTForImageClassification(ViTConfig(**VIT | {"num_labels": classes}))


def test_the_anchors_head_and_classes_are_kept(tmp_path: Path) -> None:
    a, b = classifier(1, 5), classifier(2, 3)
    a.config.id2label = dict(enumerate("abcde"))
    with pytest.raises(SpecError, match=r"num_labels .* is 3, the anchor's is 5; .* or fuse .* with --head anchor"):
        transfuse.fuse([a, b])
    fusion = transfuse.fuse([a, b], head="anchor", align="none", weights=(0.25, 0.75))
    fusion.save(tmp_path / "out")
    stored = load_file(tmp_path / "out/model.safetensors")
    assert torch.equal(stored["classifier.weight"], a.classifier.weight)
    assert torch.equal(stored["classifier.bias"], a.classifier.bias)
    query = "vit.encoder.layer.0.attention.attention.query.weight"
    trunks = [model.state_dict()["vit.layers.0.attention.q_proj.weight"] for model in (a, b)]
    assert torch.allclose(stored[query], 0.25 * trunks[0] + 0.75 * trunks[1])
    config = json.loads((tmp_path / "out/config.json").read_text())
    assert list(config["id2label"].values()) == list("abcde")


def test_layers_below_the_head_are_fitted_to_samples(tmp_path: Path) -> None:
    a = saved(tmp_path / "a", gpt2, 1)
    b = saved(tmp_path / "b", lambda words: GPT2Model(GPT2Config(**GPT2 | {"vocab_size": words})), 2)
    with pytest.raises(ConfigError, match=r"is a GPT2Model, but the anchor is a GPT2LM.* with --head anchor"):
        transfuse.fuse([a, b], TEXTS)
    fusion = transfuse.fuse([a, b], TEXTS, head="anchor")
    assert fusion.record["merge"] == "least-squares"
    assert fusion.options.head == "anchor"
    with pytest.raises(ConfigError, match="the others have none"):
        transfuse.fuse([a, b], TEXTS, head="anchor", merge="learned")


def test_other_trunks_are_refused() -> None:
    torch.manual_seed(1)
    models = [GPT2LMHeadModel(GPT2Config(**GPT2)), BertForMaskedLM(BertConfig(**BERT))]
    with pytest.raises(ConfigError, match=r"model 2: is a BertForMaskedLM.* not a BertModel and a GPT2Model"):
        transfuse.fuse(models, head="anchor")


def test_models_without_a_class_below_the_head_are_refused() -> None:
    models = [T5ForSequenceClassification(T5Config(**T5)), T5ForConditionalGeneration(T5Config(**T5))]
    expected = "of one class, not a T5ForConditionalGeneration and a T5Model"
    with pytest.raises(ConfigError, match=f"model 2: is a T5ForConditionalGeneration.* {expected}"):
        transfuse.fuse(models, head="anchor")


HEAD_FIELDS = [  # classes of the anchor and the source, their sizes, and a field that only heads read
    (ModernBertForSequenceClassification, ModernBertForMaskedLM, MODERN, "classifier_pooling", ("mean", "cls")),
    (ModernBertForSequenceClassification, ModernBertForMaskedLM, MODERN, "decoder_bias", (True, False)),
    (ModernBertForMaskedLM, ModernBertForMaskedLM, MODERN, "decoder_bias", (True, False)),
    (ModernBertForMaskedLM, ModernBertForMaskedLM, MODERN, "classifier_bias", (False, True)),
    (DebertaV2ForSequenceClassification, DebertaV2ForMaskedLM, DEBERTA, "pooler_hidden_act", ("gelu", "tanh")),
    (Gemma2ForSequenceClassification, Gemma2ForCausalLM, LLAMA | TIED, "final_logit_softcapping", (30.0, None)),
    (LlamaForSequenceClassification, LlamaForCausalLM, LLAMA, "pad_token_id", (0, 3)),
]


@pytest.mark.parametrize(("ours", "theirs", "sizes", "field", "values"), HEAD_FIELDS)
def test_fields_of_the_head_are_the_anchors(
    ours: type[PreTrainedModel],
    theirs: type[PreTrainedModel],
    sizes: dict[str, Any],
    field: str,
    values: tuple[object, object],
) -> None:
    torch.manual_seed(1)
    anchor, source = (
        kind(kind.config_class(**sizes | {field: value})) for kind, value in zip((ours, theirs), values, strict=True)
    )
    fused = transfuse.fuse([anchor, source], head="anchor", align="none").model
    assert getattr(fused.config, field) == values[0]
    assert getattr(source.config, field) == values[1]


def test_the_pooler_of_the_source_is_no_head() -> None:
    models = [ViTModel(ViTConfig(**VIT | {"pooler_act": name})) for name in ("tanh", "gelu")]
    with pytest.raises(SpecError, match='pooler_act is "gelu", the anchor\'s is "tanh"'):
        transfuse.fuse(models, head="anchor")


def test_a_padding_token_outside_the_vocabulary_of_the_source_is_not_taken() -> None:
    sizes = [{"vocab_size": 40, "pad_token_id": 35}, {"vocab_size": 31, "pad_token_id": 0}]
    models = [LlamaForSequenceClassification(LlamaConfig(**LLAMA | each)) for each in sizes]
    with pytest.raises(SpecError, match="pad_token_id is 0, the anchor's is 35"):
        transfuse.fuse(models, head="anchor")
