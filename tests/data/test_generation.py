"""Texts that language models generate themselves."""

from pathlib import Path

import pytest
import torch
from languages import gpt2, llama, saved
from transformers import AutoModelForCausalLM, AutoTokenizer, BertConfig, BertForMaskedLM

from transfuse.base.progress import silent
from transfuse.data.sample_budget import SampleBudget
from transfuse.data.text.generation import AT_ONCE, GENERATED, generated_samples
from transfuse.errors import ConfigError, DataError


def texts_of(models: list, tokenizer: object, count: int = 30, seed: int = 0) -> list[str]:
    budget = SampleBudget(count, None, torch.device("cpu"))
    samples = generated_samples(models, tokenizer, budget, seed, silent)
    assert samples.name == GENERATED
    return samples.inputs(range(len(samples)))


@pytest.mark.parametrize("build", [gpt2, llama])
def test_causal_models_write_what_they_predict(build, tmp_path: Path) -> None:
    """The texts of a model are likelier to it than those of another, whatever its generation settings are."""
    folders = [saved(tmp_path / str(seed), build, seed) for seed in (1, 2)]
    models = [AutoModelForCausalLM.from_pretrained(folder) for folder in folders]
    tokenizer = AutoTokenizer.from_pretrained(folders[0])
    for model in models:
        model.get_output_embeddings().weight.data.mul_(8)  # so that their predictions differ
    before = [model.generation_config.to_dict() for model in models]
    written = [texts_of([model], tokenizer, AT_ONCE) for model in models]
    assert [model.generation_config.to_dict() for model in models] == before
    assert max(len(tokenizer(text)["input_ids"]) for text in written[0]) > 10  # although max_new_tokens is 7

    def loss(model: torch.nn.Module, texts: list[str]) -> float:
        inputs = tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
        labels = inputs["input_ids"].masked_fill(inputs["attention_mask"] == 0, -100)
        with torch.no_grad():
            return float(model(**inputs, labels=labels).loss)

    for own, other in ((0, 1), (1, 0)):
        assert loss(models[own], written[own]) < loss(models[own], written[other])


def test_no_text_is_longer_than_the_models_take(tmp_path: Path) -> None:
    """Texts have more tokens when they are read: the tokenizer adds some, and a byte that is no letter becomes 3."""
    folder = saved(tmp_path / "a", gpt2, 1)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        model.lm_head.weight.data.zero_()  # every token is as likely
    for taken in (model.config.n_positions, 9):
        tokenizer.model_max_length = taken
        found = texts_of([model], tokenizer, AT_ONCE)
        lengths = [len(ids) for ids in tokenizer(found)["input_ids"]]
        assert taken - 3 <= max(lengths) <= taken


def test_the_same_seed_gives_the_same_texts(tmp_path: Path) -> None:
    folder = saved(tmp_path / "a", gpt2, 1)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    state = torch.get_rng_state()
    first = texts_of([model], tokenizer)
    assert torch.equal(torch.get_rng_state(), state)
    assert texts_of([model], tokenizer) == first
    assert texts_of([model], tokenizer, seed=1) != first
    assert len(first) == 30


def test_masked_models_are_refused(tmp_path: Path) -> None:
    folder = saved(tmp_path / "a", gpt2, 1)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8
    )
    with pytest.raises(ConfigError, match="BertForMaskedLM cannot generate texts"):
        texts_of([BertForMaskedLM(config)], tokenizer)


def test_only_empty_texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = saved(tmp_path / "a", gpt2, 1)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    monkeypatch.setattr(type(tokenizer), "batch_decode", lambda *_, **__: [" "] * AT_ONCE)
    with pytest.raises(DataError, match="only empty texts"):
        texts_of([model], tokenizer)
