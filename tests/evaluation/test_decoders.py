"""Decoders: a classifier reads the last token before the padding, and a language model sees no token it predicts."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from cases import GPT2, LLAMA
from kinds import SENTENCES, WORDS, bert, text, tokenizer
from languages import llama, saved
from torch.nn.functional import cross_entropy
from transformers import (
    BertLMHeadModel,
    GPT2Config,
    GPT2ForSequenceClassification,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForSequenceClassification,
    LlamaModel,
    PreTrainedModel,
    XLMConfig,
    XLMWithLMHeadModel,
    XLNetForSequenceClassification,
    XLNetLMHeadModel,
)

import transfuse
from transfuse.base.progress import silent
from transfuse.config.options import Options
from transfuse.data.load import load_samples
from transfuse.data.prepare import prepare
from transfuse.data.sample_budget import SampleBudget
from transfuse.data.text.generation import generated_samples
from transfuse.data.text.saved_tokenizer import load_tokenizer
from transfuse.data.text.texts import text_preparer
from transfuse.errors import ConfigError, SpecError

TEXTS = [text(*sentence) + " in" * (row % 4) for row, sentence in enumerate(SENTENCES[:9])]
ROWS = [{"text": each, "label": row % 3} for row, each in enumerate(TEXTS)]
XLNET = {"vocab_size": len(WORDS), "d_model": 24, "n_layer": 2, "n_head": 3, "d_inner": 37, "pad_token_id": 0}
XLM = {"vocab_size": len(WORDS), "emb_dim": 24, "n_layers": 2, "n_heads": 3, "pad_index": 0, "pad_token_id": 0}


@pytest.mark.parametrize("padding", [3, None, -1])
def test_the_padding_of_a_classifier_is_what_its_configuration_says(padding: int | None, tmp_path: Path) -> None:
    """Texts end with token 3, which a model may take for padding. The tokenizer pads with token 0."""
    torch.manual_seed(0)
    config = LlamaConfig(**{**LLAMA, "vocab_size": len(WORDS), "num_labels": 3, "pad_token_id": padding})
    model = LlamaForSequenceClassification(config).eval()
    model.save_pretrained(tmp_path)
    words = tokenizer()
    words.save_pretrained(tmp_path)
    with torch.no_grad():
        logits = torch.cat(
            [model(**words(each, return_tensors="pt", return_token_type_ids=False)).logits for each in TEXTS]
        )
    expected = cross_entropy(logits, torch.tensor([row["label"] for row in ROWS]))
    for size in (1, 4):
        (entry,) = transfuse.evaluate(tmp_path, ROWS, batch_size=size).records()
        assert entry["loss"] == pytest.approx(float(expected), rel=1e-5)
    (batch,) = prepare(load_samples(TEXTS), model, tmp_path, Options(batch_size=len(TEXTS)))  # as fusions do
    with torch.no_grad():
        found = model(batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    assert torch.allclose(found, logits, atol=1e-5)


@pytest.mark.parametrize("build", [LlamaModel, LlamaForSequenceClassification])
def test_a_tokenizer_without_padding(build: type[PreTrainedModel], tmp_path: Path) -> None:
    """What pads is not read, unless config.json says what it is."""
    a, b = (saved(tmp_path / name, llama, seed, pad=None) for seed, name in enumerate("ab"))
    for folder in (a, b):
        build.from_pretrained(folder, pad_token_id=3).save_pretrained(folder)
    texts = ["number 1", "number 2 follows number 3"] * 5
    fused = transfuse.fuse([a, b], texts, merge="least-squares")
    assert fused.model.config.pad_token_id == 3
    (batch,) = prepare(load_samples(texts), fused.model, a, Options(batch_size=10))
    assert (batch["input_ids"][batch["attention_mask"] == 0] == 3).all()


def test_where_padding_is_read_the_tokenizer_is_named(tmp_path: Path) -> None:
    folder = saved(tmp_path / "a", llama, 1, pad=None)
    with pytest.raises(ConfigError, match="/a: its tokenizer has no padding token; set pad_token in tokenizer_config"):
        text_preparer(load_tokenizer(folder), LlamaConfig())


def test_a_decoder_with_the_tokenizer_of_an_encoder_reads_no_types_of_tokens(tmp_path: Path) -> None:
    """GPT-2 would add the embeddings of these types, as if they were tokens."""
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(**{**GPT2, "vocab_size": len(WORDS), "n_positions": 24})).eval()
    torch.nn.init.normal_(model.transformer.wte.weight)
    model.save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    ids = tokenizer()(TEXTS[0], return_tensors="pt")["input_ids"]
    with torch.no_grad():
        expected = float(model(ids, labels=ids).loss)
    (entry,) = transfuse.evaluate(tmp_path, TEXTS[:1]).records()
    assert entry["loss"] == pytest.approx(expected, rel=1e-5)


def test_a_bidirectional_model_is_no_causal_one(tmp_path: Path) -> None:
    both, causal = (bert(tmp_path / str(decodes), BertLMHeadModel, 1, is_decoder=decodes) for decodes in (False, True))
    told = "BertLMHeadModel: .*; set is_decoder to true in config.json, or name the ForMaskedLM class in architectures"
    with pytest.raises(SpecError, match=told):
        transfuse.evaluate(both, TEXTS)
    with pytest.raises(SpecError, match=told):
        transfuse.finetune(both, TEXTS)
    model, budget = BertLMHeadModel.from_pretrained(both), SampleBudget(3, None, torch.device("cpu"))
    with pytest.raises(SpecError, match=told):
        generated_samples([model], tokenizer(), budget, 0, silent)
    assert transfuse.evaluate(causal, TEXTS).records()[0]["perplexity"] > 1


@pytest.mark.parametrize(
    ("build", "sizes", "told"),
    [
        (XLMWithLMHeadModel, XLM, "XLMWithLMHeadModel: sees the tokens .* because causal is false; set causal to true"),
        (XLNetLMHeadModel, XLNET, "XLNetLMHeadModel pads texts at the start and predicts them in any order"),
        (XLNetForSequenceClassification, XLNET, "XLNetForSequenceClassification pads texts at the start"),
    ],
)
def test_a_model_that_reads_texts_in_its_own_way_is_refused(
    tmp_path: Path, build: Any, sizes: dict[str, Any], told: str
) -> None:
    build(build.config_class(**sizes)).save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    for use in (transfuse.evaluate, transfuse.finetune):
        with pytest.raises(SpecError, match=told):
            use(tmp_path, TEXTS)


def test_a_causal_one_of_the_same_class_is_measured(tmp_path: Path) -> None:
    XLMWithLMHeadModel(XLMConfig(**XLM, causal=True)).save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    assert transfuse.evaluate(tmp_path, TEXTS).records()[0]["perplexity"] > 1


@pytest.fixture
def decoders(tmp_path: Path) -> Callable[..., list[Path]]:
    """Save two classifiers that pad with the given tokens, with one tokenizer, which pads with token 0."""

    def saved_with(*paddings: int | None) -> list[Path]:
        for seed, padding in enumerate(paddings):
            torch.manual_seed(seed)
            config = GPT2Config(**{**GPT2, "vocab_size": len(WORDS), "n_positions": 24, "num_labels": 3})
            config.pad_token_id = padding
            GPT2ForSequenceClassification(config).save_pretrained(tmp_path / str(seed))
            tokenizer().save_pretrained(tmp_path / str(seed))
        return [tmp_path / str(seed) for seed in range(len(paddings))]

    return saved_with


def test_decoders_without_a_padding_token_are_compared_and_teach(decoders: Callable[..., list[Path]]) -> None:
    """They read the padding of the first one, which takes the tokenizer's."""

    def agreement(*paddings: int | None) -> float:
        return float(transfuse.evaluate(decoders(*paddings), TEXTS).records()[0]["agreement_with"][0]["agreement"])

    def losses(*paddings: int | None) -> list[tuple[int, float]]:
        student, teacher = decoders(*paddings)
        trained = transfuse.finetune(student, ROWS, teachers=[teacher], distill=1.0, epochs=1)
        return list(trained.record["losses"])

    assert agreement(None, None) == agreement(-1, -1) == agreement(0, 0)
    assert losses(None, None) == losses(0, 0)


def test_decoders_that_pad_with_other_tokens_are_not_compared(decoders: Callable[..., list[Path]]) -> None:
    models = decoders(0, 5)
    with pytest.raises(ConfigError, match="pad_token_id is 0 in one model and 5 in another that reads its texts; if"):
        transfuse.evaluate(models, TEXTS)
    with pytest.raises(ConfigError, match="pad_token_id is 0 in one model and 5 in another"):
        transfuse.finetune(models[0], ROWS, teachers=models[1:], distill=1.0, epochs=1)
