"""A head is tied where the files have one matrix, whatever config.json says; loaded and by headers alone alike."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from kinds import SENTENCES, text, tokenizer
from safetensors.torch import load_file, save_file
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    BertConfig,
    BertForMaskedLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    T5Config,
    T5ForConditionalGeneration,
)  # fmt: skip

from transfuse import finetune, fuse
from transfuse.checkpoint.reading.load import load_empty, load_model
from transfuse.checkpoint.reading.ties import is_tied, with_separate_tensors
from transfuse.errors import ConfigError
from transfuse.network.reconfigured import empty_like

SIZES = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24, "vocab_size": 30}
T5_SIZES = {"d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 1, "num_heads": 2, "vocab_size": 30}
Load = Callable[[Path], PreTrainedModel]
loads = pytest.mark.parametrize("load", [load_model, load_empty])


def llama(seed: int, tie: bool) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    return LlamaForCausalLM(LlamaConfig(**SIZES, tie_word_embeddings=tie)).eval()


def claims(folder: Path, tie: bool) -> Path:
    config = json.loads((folder / "config.json").read_text()) | {"tie_word_embeddings": tie}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def with_head(folder: Path, name: str, values: torch.Tensor) -> Path:
    tensors = load_file(folder / "model.safetensors")
    save_file(tensors | {name: values}, folder / "model.safetensors", {"format": "pt"})
    return folder


@loads
def test_a_head_of_its_own_is_not_tied(load: Load, tmp_path: Path) -> None:
    llama(0, tie=False).save_pretrained(tmp_path)
    found = load(claims(tmp_path, tie=True))
    assert is_tied(found) is False
    assert found.config.tie_word_embeddings is False


@loads
def test_a_head_that_is_written_out_is_tied(load: Load, tmp_path: Path) -> None:
    model = llama(0, tie=True)
    model.save_pretrained(tmp_path)
    found = load(with_head(tmp_path, "lm_head.weight", model.model.embed_tokens.weight.detach().clone()))
    assert is_tied(found) is True
    assert found.config.tie_word_embeddings is True


@loads
def test_a_decoder_of_its_own(load: Load, tmp_path: Path) -> None:
    torch.manual_seed(0)
    BertForMaskedLM(BertConfig(**SIZES, max_position_embeddings=16)).save_pretrained(tmp_path)
    assert is_tied(load(tmp_path)) is True
    assert is_tied(load(with_head(tmp_path, "cls.predictions.decoder.weight", torch.randn(30, 16)))) is False


@loads
def test_a_t5_with_a_head_of_its_own(load: Load, tmp_path: Path) -> None:
    """transformers 5 takes every T5 for tied; version 1.1 is not, and its file has both."""
    torch.manual_seed(0)
    T5ForConditionalGeneration(T5Config(**T5_SIZES)).save_pretrained(tmp_path)
    found = load(claims(with_head(tmp_path, "lm_head.weight", torch.randn(30, 16)), tie=False))
    assert is_tied(found) is False
    assert found.config.tie_word_embeddings is False
    assert shares_embeddings(found)
    assert shares_embeddings(empty_like(found, found.config))


def t5_with_its_own_head(folder: Path, seed: int = 0, more: Iterable[str] = ()) -> Path:
    """Save a T5 as version 1.1 does: one matrix of embeddings, perhaps under further names, and a head."""
    torch.manual_seed(seed)
    model = T5ForConditionalGeneration(T5Config(**T5_SIZES, eos_token_id=29))
    model.save_pretrained(folder)
    with_head(folder, "lm_head.weight", torch.randn(30, 16))
    for name in more:
        with_head(folder, name, model.shared.weight.detach())
    return claims(folder, tie=False)


def shares_embeddings(model: PreTrainedModel) -> bool:
    stacks = (model.get_submodule(f"{stack}.embed_tokens") for stack in ("encoder", "decoder"))
    return all(stack.weight is model.get_input_embeddings().weight for stack in stacks)


@pytest.mark.parametrize("more", [(), ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight")])
@pytest.mark.parametrize("stream", [False, True])
def test_a_t5_with_a_head_of_its_own_is_fused_with_one_matrix_of_embeddings(
    stream: bool, more: tuple[str, ...], tmp_path: Path
) -> None:
    models = [t5_with_its_own_head(tmp_path / str(seed), seed, more) for seed in range(2)]
    fuse(models, align="none", stream=stream).save(tmp_path / "out")
    found = load_file(tmp_path / "out" / "model.safetensors")
    held = [load_file(model / "model.safetensors") for model in models]
    assert found.keys() - set(more) == held[0].keys() - set(more)
    assert torch.allclose(found["shared.weight"], (held[0]["shared.weight"] + held[1]["shared.weight"]) / 2)
    theirs = T5ForConditionalGeneration.from_pretrained(tmp_path / "out").eval()
    ours = load_model(tmp_path / "out")
    assert shares_embeddings(theirs)
    assert shares_embeddings(ours)
    inputs = {"input_ids": torch.arange(8)[None], "decoder_input_ids": torch.arange(4)[None]}
    assert torch.equal(ours(**inputs).logits, theirs(**inputs).logits)


def test_an_adapter_of_a_t5_with_a_head_of_its_own_leaves_the_embeddings_tied(tmp_path: Path) -> None:
    merged = with_separate_tensors(load_model(t5_with_its_own_head(tmp_path)))
    assert shares_embeddings(merged)
    assert is_tied(merged) is merged.config.tie_word_embeddings is False


def test_finetuning_changes_the_one_matrix_of_embeddings(tmp_path: Path) -> None:
    model = t5_with_its_own_head(tmp_path / "model")
    before = load_file(model / "model.safetensors")
    data = Dataset.from_dict({"source": [text(*SENTENCES[0])], "target": [text(*SENTENCES[1])]})
    result = finetune(model, data, processor=tokenizer(), epochs=1, batch_size=1, learning_rate=0.01)
    result.save(tmp_path / "out")
    after = load_file(tmp_path / "out" / "model.safetensors")
    assert after.keys() == before.keys()
    assert not torch.equal(after["shared.weight"], before["shared.weight"])
    assert shares_embeddings(load_model(tmp_path / "out"))


def test_two_that_are_untied_despite_their_configurations_fuse(tmp_path: Path) -> None:
    for seed, name in enumerate("ab"):
        llama(seed, tie=False).save_pretrained(tmp_path / name)
        claims(tmp_path / name, tie=True)
    fusion = fuse([tmp_path / name for name in "ab"], align="none")
    fusion.save(tmp_path / "out")
    due = [load_file(tmp_path / name / "model.safetensors")["lm_head.weight"] for name in "ab"]
    found = LlamaForCausalLM.from_pretrained(tmp_path / "out")
    assert torch.allclose(found.lm_head.weight, sum(due) / 2)
    assert json.loads((tmp_path / "out" / "config.json").read_text())["tie_word_embeddings"] is False


@pytest.mark.parametrize("kind", ["BERT", "BART"])
def test_what_else_the_setting_ties_is_kept(kind: str, tmp_path: Path) -> None:
    """The bias of BERT's head, and the embeddings of BART's encoder and decoder."""
    torch.manual_seed(0)
    sizes = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "vocab_size": 30, "encoder_attention_heads": 2}
    sizes |= {"decoder_attention_heads": 2, "encoder_ffn_dim": 24, "decoder_ffn_dim": 24}
    built: dict[str, tuple[PreTrainedModel, str]] = {
        "BERT": (BertForMaskedLM(BertConfig(**SIZES, max_position_embeddings=16)), "cls.predictions.decoder.weight"),
        "BART": (BartForConditionalGeneration(BartConfig(**sizes, max_position_embeddings=16)), "lm_head.weight"),
    }
    model, head = built[kind]
    for name in "ab":
        model.save_pretrained(tmp_path / name)
        with_head(tmp_path / name, head, torch.randn(30, 16))
    fusion = fuse([tmp_path / name for name in "ab"])
    fusion.save(tmp_path / "out")  # which loads it again, without missing tensors
    found = load_model(tmp_path / "out")
    assert is_tied(found) is False
    inputs = {"input_ids": torch.arange(8)[None]}
    torch.testing.assert_close(found(**inputs).logits, fusion.model(**inputs).logits)


@pytest.mark.parametrize("says", [True, False])
def test_a_loaded_model_that_is_not_what_it_says(says: bool) -> None:
    model = llama(0, tie=not says)
    model.config.tie_word_embeddings = says
    with pytest.raises(ConfigError, match=f"model 2: tie_word_embeddings is {says}.*set it to {not says}"):
        fuse([llama(1, tie=says), model])
