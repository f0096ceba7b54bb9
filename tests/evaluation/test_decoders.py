"""Decoders: a classifier reads the last token before the padding, and a language model sees no token it predicts."""

from pathlib import Path

import pytest
import torch
from cases import LLAMA
from kinds import SENTENCES, WORDS, bert, text, tokenizer
from torch.nn.functional import cross_entropy
from transformers import BertLMHeadModel, LlamaConfig, LlamaForSequenceClassification

import transfuse
from transfuse.base.progress import silent
from transfuse.config.options import Options
from transfuse.data.generation import generated_samples
from transfuse.data.load import load_samples
from transfuse.data.prepare import prepare
from transfuse.data.sample_budget import SampleBudget
from transfuse.errors import SpecError

TEXTS = [text(*sentence) + " in" * (row % 4) for row, sentence in enumerate(SENTENCES[:9])]
ROWS = [{"text": each, "label": row % 3} for row, each in enumerate(TEXTS)]


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
