"""A merged adapter computes what the model with the adapter computes, also where layers share tensors."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from cases import GPT2, LLAMA, T5
from checkpoints import refuses
from torch import Tensor
from transformers import (
    BertConfig,
    BertForMaskedLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    T5Config,
    T5ForConditionalGeneration,
)

import transfuse
from transfuse.checkpoint.reading.load import load_model
from transfuse.errors import ConfigError, first_line

peft: Any = pytest.importorskip("peft", reason="peft is not installed; pip install peft")

WORDS = 20
BERT = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
BUILDERS = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**{**LLAMA, "vocab_size": WORDS, "tie_word_embeddings": True})),
    "gpt2": lambda: GPT2LMHeadModel(GPT2Config(**{**GPT2, "vocab_size": WORDS, "n_positions": 2 * WORDS})),
    "t5": lambda: T5ForConditionalGeneration(T5Config(**{**T5, "vocab_size": WORDS})),
    "bert": lambda: BertForMaskedLM(BertConfig(vocab_size=WORDS, **BERT)),
}


@torch.no_grad()
def logits(model: PreTrainedModel) -> Tensor:
    tokens = torch.arange(model.config.vocab_size).view(2, -1)
    inputs = {"decoder_input_ids": tokens} if model.config.is_encoder_decoder else {}
    return model.eval()(input_ids=tokens, **inputs).logits


def base_model(folder: Path, name: str) -> PreTrainedModel:
    torch.manual_seed(0)
    model = BUILDERS[name]()
    model.save_pretrained(folder)
    return type(model).from_pretrained(folder)


def adapted(model: PreTrainedModel, folder: Path, embeddings: bool | str = "auto", **settings: Any) -> Tensor:
    """Save an adapter with random weights; returns what the model with the adapter computes.

    Args:
        embeddings: whether the embeddings are saved with it; "auto": if they were resized or adapted.
    """
    wrapped = peft.get_peft_model(model, peft.LoraConfig(r=2, init_lora_weights=False, **settings))
    torch.manual_seed(1)
    for parameter in wrapped.parameters():
        if parameter.requires_grad:
            parameter.data += 0.1 * torch.randn_like(parameter)
    wrapped.save_pretrained(folder, save_embedding_layers=embeddings)
    return logits(wrapped)


@pytest.mark.parametrize(
    ("name", "settings", "tied"),
    [
        ("llama", {"target_modules": ["q_proj", "lm_head"]}, False),
        ("llama", {"target_modules": ["q_proj", "embed_tokens"]}, False),
        ("llama", {"target_modules": ["q_proj"], "trainable_token_indices": [3, 7]}, True),
        ("llama", {"target_modules": ["q_proj"], "layer_replication": [[0, 2], [1, 2]]}, True),
        ("gpt2", {"target_modules": ["c_attn", "wte"]}, False),
        ("t5", {"target_modules": ["q", "shared"]}, False),
        ("t5", {"target_modules": ["q", "lm_head"]}, False),
        ("bert", {"target_modules": ["query", "decoder"]}, False),
        ("bert", {"target_modules": ["query"], "modules_to_save": ["cls"]}, False),
        ("bert", {"target_modules": ["query"], "bias": "all"}, True),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")  # of PEFT, on tied embeddings
def test_layers_that_share_tensors(tmp_path: Path, name: str, settings: dict[str, Any], tied: bool) -> None:
    expected = adapted(base_model(tmp_path / "base", name), tmp_path / "adapter", **settings)
    merged = load_model(tmp_path / "adapter")
    torch.testing.assert_close(logits(merged), expected, rtol=1e-4, atol=1e-5)
    assert merged.config.tie_word_embeddings == tied
    fused = transfuse.fuse([tmp_path / "adapter"] * 2, align="none").model
    torch.testing.assert_close(logits(fused), expected, rtol=1e-4, atol=1e-5)


def test_the_adapter_of_a_fusion_is_read(tmp_path: Path) -> None:
    base = base_model(tmp_path / "base", "bert")
    other = copy.deepcopy(base)
    for parameter in other.parameters():
        parameter.data += 0.01 * torch.randn_like(parameter)
    other.save_pretrained(tmp_path / "other")
    fusion = transfuse.fuse([tmp_path / "base", tmp_path / "other"])
    fusion.save_adapter(tmp_path / "adapter", 32)
    torch.testing.assert_close(logits(load_model(tmp_path / "adapter")), logits(fusion.model), rtol=1e-4, atol=1e-5)


def resized(folder: Path, name: str, tied: bool = True) -> PreTrainedModel:
    """Save a base model; returns it with four tokens more."""
    model = base_model(folder, name)
    if not tied:
        model.config.tie_word_embeddings = False
        model.lm_head.weight = torch.nn.Parameter(2 * model.lm_head.weight)
        model.save_pretrained(folder)
    model.resize_token_embeddings(WORDS + 4, mean_resizing=False)
    return model


@pytest.mark.parametrize(
    ("name", "tied", "settings"),
    [
        ("llama", False, {"target_modules": ["q_proj"]}),
        ("llama", True, {"target_modules": ["q_proj", "embed_tokens"]}),
        ("llama", True, {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens", "lm_head"]}),
        ("llama", False, {"target_modules": ["q_proj"], "trainable_token_indices": [WORDS, WORDS + 3]}),
        ("t5", True, {"target_modules": ["q"], "modules_to_save": ["shared"]}),
        ("bert", True, {"target_modules": ["query"]}),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")  # of PEFT, on tied embeddings
def test_added_tokens(tmp_path: Path, name: str, tied: bool, settings: dict[str, Any]) -> None:
    expected = adapted(resized(tmp_path / "base", name, tied), tmp_path / "adapter", **settings)
    state = torch.get_rng_state()
    merged = load_model(tmp_path / "adapter")
    assert torch.equal(torch.get_rng_state(), state)
    assert merged.config.vocab_size == WORDS + 4
    torch.testing.assert_close(logits(merged), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "tokens"),
    [
        ({"target_modules": ["q_proj"], "trainable_token_indices": [WORDS, WORDS + 1]}, WORDS + 2),
        ({"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"]}, WORDS + 4),  # without those of the head
        ({"target_modules": ["q_proj", "embed_tokens"]}, WORDS + 4),
    ],
)
def test_added_tokens_without_embeddings(tmp_path: Path, settings: dict[str, Any], tokens: int) -> None:
    adapted(resized(tmp_path / "base", "llama", False), tmp_path / "adapter", embeddings=False, **settings)
    found = f"it has {WORDS} tokens, the adapter {tokens}"
    refuses(tmp_path / "adapter", found, "lacks the embeddings or the head", "save_embedding_layers=True")


def test_adapted_positions_are_not_counted_as_tokens(tmp_path: Path) -> None:
    base = base_model(tmp_path / "base", "gpt2")
    expected = adapted(base, tmp_path / "adapter", embeddings=False, target_modules=["c_attn", "wpe"])
    torch.testing.assert_close(logits(load_model(tmp_path / "adapter")), expected, rtol=1e-4, atol=1e-5)


def test_the_first_line_of_an_error_does_not_end_at_a_colon() -> None:
    assert first_line(ValueError("\nError(s):\n\tsize mismatch\nmore")) == "Error(s): size mismatch"
    assert first_line(ValueError("one:")) == "one:"
    assert first_line(ValueError("\n")) == "ValueError"


@pytest.mark.filterwarnings("ignore::UserWarning")  # of PEFT, on tied embeddings
def test_the_base_of_adapters_is_known_however_far_they_are_from_it(tmp_path: Path) -> None:
    base = base_model(tmp_path / "base", "llama")
    folders = [tmp_path / name for name in ("base", "far", "other")]
    for seed, folder in enumerate(folders[1:]):
        adapted(type(base).from_pretrained(tmp_path / "base"), folder, target_modules=["q_proj"], lora_alpha=900 + seed)
    assert transfuse.fuse(folders).record["options"]["align"] == "none"
    transfuse.fuse(folders[1:], base=folders[0], merge="task-arithmetic")
    torch.manual_seed(3)
    new = type(base)(base.config)
    new.save_pretrained(tmp_path / "new")
    transfuse.carry(folders[0], folders[1], tmp_path / "new")
    with pytest.raises(ConfigError, match="was not fine-tuned from"):  # nothing is known of a model in memory
        transfuse.carry(load_model(folders[0]), folders[1], tmp_path / "new")
