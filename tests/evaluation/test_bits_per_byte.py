"""Bits per byte: the loss of a language model per byte of its texts, whatever its tokenizer."""

from math import isnan, log, log2
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from rich.console import Console
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    ByT5Tokenizer,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedTokenizerFast,
)

from transfuse import evaluate
from transfuse.base.progress import Silent
from transfuse.report.evaluation_tables import evaluation_tables

TEXTS = ["Zürich: 20 °C und sonnig 🌞, später Regen", "one line and another one  ", "日本語 and English"]
SIZE = sum(len(text.encode()) for text in TEXTS)


def checkpoint(folder: Path, vocabulary: int, starts: bool = True, flat: bool = False, length: int = 256) -> str:
    """Write a language model with a tokenizer over bytes that has merged some of them.

    Args:
        starts: whether texts begin with a special token, so that all of their tokens are predicted.
        flat: whether all tokens are equally probable.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=vocabulary, special_tokens=["<s>"], initial_alphabet=alphabet)
    tokenizer.train_from_iterator(TEXTS * 3, trainer)
    if starts:
        tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="<s>", pad_token="<s>", model_max_length=length
    )
    torch.manual_seed(vocabulary)
    sizes = {"n_embd": 8, "n_layer": 1, "n_head": 1, "n_positions": length}
    model = GPT2LMHeadModel(GPT2Config(vocab_size=len(fast), bos_token_id=0, eos_token_id=0, **sizes))
    for parameter in model.parameters():
        parameter.data.mul_(0.0 if flat else 8.0)
    model.save_pretrained(folder)
    fast.save_pretrained(folder)
    return str(folder)


def score(folder: str, texts: list[str] = TEXTS, **options: object) -> float:
    (record,) = evaluate(folder, Dataset.from_dict({"text": texts}), **options).records()
    return record["bits_per_byte"]


def log_likelihood(folder: str, text: str) -> float:
    """Return the logarithm of the probability of a text after the start token, token by token."""
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    ids = [0, *tokenizer(text, add_special_tokens=False)["input_ids"]]
    with torch.no_grad():
        logs = [model(torch.tensor([ids[:end]])).logits[0, -1].log_softmax(-1)[ids[end]] for end in range(1, len(ids))]
    return float(sum(logs))


def test_it_is_what_lm_eval_computes(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "a", 300)
    assert score(folder) == pytest.approx(-sum(log_likelihood(folder, text) for text in TEXTS) / SIZE / log(2))


def test_tokenizers_are_comparable(tmp_path: Path) -> None:
    """With equally probable tokens, a text takes log2(vocabulary) bits per token, in either tokenizer."""
    for vocabulary in (257, 320):
        folder = checkpoint(tmp_path / str(vocabulary), vocabulary, flat=True)
        tokenizer = AutoTokenizer.from_pretrained(folder)
        tokens = sum(len(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in TEXTS)
        assert score(folder) == pytest.approx(tokens * log2(len(tokenizer)) / SIZE)
    assert score(str(tmp_path / "257")) == pytest.approx(log2(257))  # a token is a byte


def test_a_token_without_prediction_has_no_bytes_either(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "a", 257, starts=False, flat=True)
    assert score(folder) == pytest.approx(log2(257))


@pytest.mark.parametrize("options", [{"block_size": 8}, {"block_size": 8, "stride": 3}, {"block_size": 64}])
def test_blocks_are_scored_as_they_are_read(options: dict[str, int], tmp_path: Path) -> None:
    """Contexts are not counted again, and the tokens between packed texts are no text."""
    folder = checkpoint(tmp_path / "a", 257, flat=True)
    texts = ["plain letters only", "and some more", "x"]
    assert score(folder, texts, **options) == pytest.approx(log2(257))
    merged = checkpoint(tmp_path / "b", 300)
    whole, windows = (score(merged, TEXTS, **each) for each in ({}, options))
    assert whole == pytest.approx(windows, rel=0.5)
    assert whole != windows


def test_a_tokenizer_that_tells_no_bytes_has_no_column() -> None:
    sizes = {"n_embd": 8, "n_layer": 1, "n_head": 1, "n_positions": 64}
    tokenizer = ByT5Tokenizer()
    model = GPT2LMHeadModel(GPT2Config(vocab_size=len(tokenizer), bos_token_id=0, eos_token_id=1, **sizes))
    (record,) = evaluate(model, Dataset.from_dict({"text": TEXTS}), processor=tokenizer).records()
    assert "perplexity" in record
    assert "bits_per_byte" not in record


def test_losses_of_other_tokens_are_not_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    progress = Silent()
    monkeypatch.setattr(progress, "warn", told.append)
    models = [checkpoint(tmp_path / str(vocabulary), vocabulary) for vocabulary in (257, 320)]
    found = evaluate(models, Dataset.from_dict({"text": TEXTS}), progress=progress)
    (apart,) = found.records()[0]["against"]
    assert isnan(apart["loss"])
    assert isnan(apart["accuracy"])
    assert apart["loss_interval"] is None
    assert apart["bits_per_byte"]["value"] == pytest.approx(score(models[0]) - score(models[1]))
    assert any("320: predicts another number of tokens of a sample than" in line for line in told)
    console = Console(width=200)
    with console.capture() as shown:
        console.print(evaluation_tables(found))
    assert "nan" not in shown.get()
