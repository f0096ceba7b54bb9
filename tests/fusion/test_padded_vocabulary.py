"""Models of one tokenizer with more or fewer rows than it has tokens are fused with the anchor's rows."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from kept_warnings import KeptWarnings
from languages import TEXTS, gpt2, llama, saved
from safetensors.torch import load_file
from transformers import AutoTokenizer, BertConfig, BertForMaskedLM, PreTrainedModel

import transfuse
from transfuse.checkpoint.reading.load import load_model
from transfuse.cli.jobs.fuse import plan_job
from transfuse.config.job import Job
from transfuse.config.make import make
from transfuse.errors import CheckpointError, ConfigError, SpecError
from transfuse.fusion.models.padded_vocabulary import resized_to_anchor

EXTRA = 20


def bert(words: int) -> BertForMaskedLM:
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    model = BertForMaskedLM(BertConfig(**sizes, vocab_size=words, max_position_embeddings=14, pad_token_id=0))
    torch.nn.init.normal_(model.cls.predictions.bias)
    return model


def untied(words: int) -> PreTrainedModel:
    model = llama(words)
    assert not model.config.tie_word_embeddings
    return model


def padded(folder: Path, path: Path, build: Callable[[int], PreTrainedModel]) -> Path:
    """Save the model at `path` with further rows, which are large enough to be seen in any output."""
    small = load_model(path)
    rows = small.config.vocab_size
    saved(folder, lambda words: build(words + EXTRA), 0)
    large = load_model(folder)
    with torch.no_grad():
        for name, values in large.state_dict().items():
            stored = small.state_dict()[name]
            if stored.shape == values.shape:
                values.copy_(stored)
            else:
                values[:rows] = stored
                values[rows:] = 3.0
    large.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("align", ["none", "exact", "flow"])
@pytest.mark.parametrize("build", [gpt2, untied, bert])
def test_rows_beyond_the_tokenizer_are_left_out(tmp_path: Path, build: Any, align: str) -> None:
    a, b = (saved(tmp_path / name, build, seed) for seed, name in enumerate("ab"))
    large = padded(tmp_path / "large", b, build)
    progress = KeptWarnings()
    transfuse.fuse([a, b], align=align).save(tmp_path / "expected")
    transfuse.fuse([a, large], align=align, progress=progress).save(tmp_path / "actual")
    expected, actual = (load_file(tmp_path / name / "model.safetensors") for name in ("expected", "actual"))
    assert expected.keys() == actual.keys()
    assert all(torch.equal(expected[name], actual[name]) for name in expected)
    rows = load_model(a).config.vocab_size
    assert [line for line in progress.lines if "padding" in line] == [
        f"{large}: vocab_size is {rows + EXTRA}, that of the anchor is {rows}, and their tokenizers agree, so the"
        f" difference is padding; its last {EXTRA} rows are left out"
    ]


@pytest.mark.parametrize("build", [gpt2, untied, bert])
def test_a_source_with_fewer_rows(tmp_path: Path, build: Any) -> None:
    a, b = (saved(tmp_path / name, build, seed) for seed, name in enumerate("ab"))
    large = padded(tmp_path / "large", a, build)
    progress = KeptWarnings()
    fused = transfuse.fuse([large, b], align="exact", progress=progress).model
    rows = load_model(a).config.vocab_size
    assert fused.config.vocab_size == rows + EXTRA
    assert fused.get_input_embeddings().weight.shape[0] == rows + EXTRA
    assert f"{EXTRA} rows, the mean of its own, are added" in " ".join(progress.lines)
    source, wider = load_model(b), resized_to_anchor(load_model(b), load_model(large)).eval()
    inputs = AutoTokenizer.from_pretrained(b)(TEXTS[:2], return_tensors="pt", return_token_type_ids=False)
    before, after = source(**inputs).logits, wider(**inputs).logits
    torch.testing.assert_close(after[..., :rows], before)
    torch.testing.assert_close(after[..., rows:], before.mean(-1, keepdim=True).expand(*before.shape[:-1], EXTRA))
    assert source.config.vocab_size == rows  # is not changed


@pytest.mark.parametrize("merge", ["least-squares", "learned"])
def test_with_samples(tmp_path: Path, merge: str) -> None:
    a, b = (saved(tmp_path / name, gpt2, seed) for seed, name in enumerate("ab"))
    large = padded(tmp_path / "large", b, gpt2)
    options: dict[str, Any] = {"data": TEXTS, "merge": merge} | ({"steps": 2} if merge == "learned" else {})
    expected, actual = (transfuse.fuse([a, other], **options).model.state_dict() for other in (b, large))
    assert all(torch.equal(expected[name], actual[name]) for name in expected)


def test_models_are_loaded_even_if_they_could_be_streamed(tmp_path: Path) -> None:
    a, b = (saved(tmp_path / name, gpt2, seed) for seed, name in enumerate("ab"))
    large = padded(tmp_path / "large", b, gpt2)
    with pytest.raises(
        ConfigError, match=f"stream: models must be loaded, because the vocabulary of {large} is padded"
    ):
        transfuse.fuse([a, large], stream=True)
    plans = [plan_job(make(Job, {"models": (str(a), str(other))})) for other in (b, large)]
    assert plans[0].streamed_bytes is not None
    assert plans[1].streamed_bytes is None


def test_other_differences_are_refused_as_before(tmp_path: Path) -> None:
    a, b = (saved(tmp_path / name, gpt2, seed) for seed, name in enumerate("ab"))
    large = padded(tmp_path / "large", b, gpt2)
    with pytest.raises(SpecError, match="vocab_size is"):  # the tokenizers of loaded models are not known
        transfuse.fuse([load_model(a), load_model(large)])
    tokenizer = AutoTokenizer.from_pretrained(large)
    tokenizer.add_tokens(["one more"])
    tokenizer.save_pretrained(large)
    with pytest.raises(CheckpointError, match="its tokenizer differs"):
        transfuse.fuse([a, large])
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (large / name).unlink()
    with pytest.raises(SpecError, match="vocab_size is"):
        transfuse.fuse([a, large])


def test_a_tokenizer_with_more_tokens_than_rows_is_not_padded(tmp_path: Path) -> None:
    a = saved(tmp_path / "a", gpt2, 0)
    saved(tmp_path / "small", lambda words: gpt2(words - 7), 1)
    with pytest.raises(SpecError, match="vocab_size is"):
        transfuse.fuse([a, tmp_path / "small"])
