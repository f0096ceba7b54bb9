"""Tiny language models on disk, with a tokenizer of their own."""

from pathlib import Path

import torch
from cases import GPT2, LLAMA, MOE, T5
from tokenizers.implementations import ByteLevelBPETokenizer
from transformers import (
    GenerationConfig,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)

TEXTS = [f"number {row % 7} follows number {row % 5}" for row in range(30)]
END = "<|end|>"


def saved(folder: Path, build, seed: int, pad: str | None = END) -> Path:
    """A checkpoint with tokenizer, generation settings and a chat template."""
    words = ByteLevelBPETokenizer()
    words.train_from_iterator(TEXTS, 280, special_tokens=[END], show_progress=False)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words._tokenizer, eos_token=END, pad_token=pad)
    tokenizer.model_max_length = 12
    tokenizer.chat_template = "{{ messages }}"
    torch.manual_seed(seed)
    model: PreTrainedModel = build(len(tokenizer))
    model.generation_config = GenerationConfig(max_new_tokens=7, eos_token_id=0)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def gpt2(words: int, **changes: int) -> GPT2LMHeadModel:
    return GPT2LMHeadModel(GPT2Config(**{**GPT2, "vocab_size": words, **changes}))


def llama(words: int, **changes: int) -> LlamaForCausalLM:
    return LlamaForCausalLM(LlamaConfig(**{**LLAMA, "vocab_size": words, **changes}))


def qwen3_moe(words: int) -> Qwen3MoeForCausalLM:
    return Qwen3MoeForCausalLM(Qwen3MoeConfig(**{**MOE, "vocab_size": words}))


def t5(words: int) -> T5ForConditionalGeneration:
    return T5ForConditionalGeneration(T5Config(**{**T5, "vocab_size": words}))
