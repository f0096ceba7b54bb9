"""A source whose head is its embeddings is fused with an anchor whose head has weights of its own."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from languages import TEXTS, gpt2, llama, saved
from transformers import (
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    PreTrainedModel,
)

import transfuse
from transfuse.errors import ConfigError, SpecError


def bert(words: int, **changes: Any) -> BertForMaskedLM:
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    return BertForMaskedLM(BertConfig(**sizes, vocab_size=words, max_position_embeddings=14, pad_token_id=0, **changes))


def logits(model: PreTrainedModel, folder: Path) -> torch.Tensor:
    texts = AutoTokenizer.from_pretrained(folder)(TEXTS[:4], return_tensors="pt", padding=True)
    return model.eval()(**texts).logits[texts.attention_mask == 1]


def pair(folder: Path, build: Any, **changes: Any) -> tuple[Path, Path]:
    """Save a model whose head has weights of its own, and one whose head is its embeddings."""
    untied = saved(folder / "untied", partial(build, tie_word_embeddings=False), 0)
    return untied, saved(folder / "tied", partial(build, tie_word_embeddings=True, **changes), 1)


@pytest.mark.parametrize("align", ["none", "exact", "flow"])
@pytest.mark.parametrize(
    ("build", "auto"), [(llama, AutoModelForCausalLM), (gpt2, AutoModelForCausalLM), (bert, AutoModelForMaskedLM)]
)
def test_its_head_becomes_a_copy(tmp_path: Path, build: Any, auto: Any, align: str) -> None:
    untied, tied = pair(tmp_path, build)
    source = auto.from_pretrained(tied)
    alike = build(source.config.vocab_size, tie_word_embeddings=False)
    alike.load_state_dict(source.state_dict())
    assert torch.equal(logits(alike, tied), logits(source, tied))
    expected = transfuse.fuse([auto.from_pretrained(untied), alike], align=align).model
    fusion = transfuse.fuse([untied, tied], align=align)
    fusion.save(tmp_path / "fused")
    fused = auto.from_pretrained(tmp_path / "fused")
    assert (logits(fused, tied) - logits(expected, tied)).abs().max() < 1e-5
    assert fused.config.tie_word_embeddings is False


def test_it_teaches_and_may_be_larger(tmp_path: Path) -> None:
    untied, tied = pair(tmp_path, llama, num_hidden_layers=3)
    matched = transfuse.match([untied, tied], TEXTS, merge="learned", steps=1)
    assert torch.equal(logits(matched.inputs.whole[1], tied), logits(AutoModelForCausalLM.from_pretrained(tied), tied))
    assert transfuse.fuse([untied, tied], TEXTS, merge="learned", steps=2).model.config.tie_word_embeddings is False


def test_fine_tunes_of_a_tied_base(tmp_path: Path) -> None:
    untied, tied = pair(tmp_path, llama)
    tuned = AutoModelForCausalLM.from_pretrained(untied)
    base = AutoModelForCausalLM.from_pretrained(tied)
    tuned.load_state_dict(base.state_dict())
    with torch.no_grad():
        for parameter in tuned.parameters():
            parameter.add_(0.001 * torch.randn_like(parameter))
    fused = transfuse.fuse([tuned, tuned], base=base, merge="task-arithmetic", align="none").model
    head = fused.get_output_embeddings().weight
    moved = tuned.get_output_embeddings().weight - base.get_output_embeddings().weight
    assert torch.allclose(head, base.get_output_embeddings().weight + 2 * moved, atol=1e-5)


def test_what_is_refused(tmp_path: Path) -> None:
    untied, tied = pair(tmp_path, llama)
    with pytest.raises(SpecError, match="give the model with a head of its own first"):
        transfuse.fuse([tied, untied])
    with pytest.raises(ConfigError, match=r"the head of .*tied is its embeddings, and the anchor's is not"):
        transfuse.fuse([untied, tied], stream=True)
