"""Marian computes its positions when it is loaded, so that they are not trained, and what was trained can be saved."""

from pathlib import Path
from typing import Any

import pytest
import torch
from kinds import SENTENCES, SIZES, text, tokenizer
from transformers import MarianConfig, MarianMTModel

import transfuse

ROWS = [{"document": text(*words), "summary": text(*words[::-1])} for words in SENTENCES]


def marian(seed: int) -> MarianMTModel:
    torch.manual_seed(seed)
    sides = {"attention_heads": 2, "ffn_dim": 24, "layers": 1}
    sizes: dict[str, Any] = {f"{side}_{name}": size for side in ("encoder", "decoder") for name, size in sides.items()}
    words = {name: SIZES[name] for name in ("vocab_size", "max_position_embeddings")}
    tokens = {"pad_token_id": 0, "eos_token_id": 3, "decoder_start_token_id": 0, "forced_eos_token_id": None}
    return MarianMTModel(MarianConfig(**sizes | words | tokens, d_model=16, init_std=0.5)).eval()


@pytest.mark.parametrize("verb", ["fuse", "finetune"])
def test_what_is_not_saved_is_not_trained(tmp_path: Path, verb: str) -> None:
    model = marian(1)
    model.save_pretrained(tmp_path / "model")
    tokenizer().save_pretrained(tmp_path / "model")
    made: Any
    if verb == "fuse":
        made = transfuse.fuse([model, marian(2)], ROWS, processor=tokenizer(), merge="learned", steps=20)
    else:
        made = transfuse.finetune(tmp_path / "model", ROWS, epochs=1, learning_rate=0.01)
    for name in MarianMTModel._keys_to_ignore_on_save or ():
        assert torch.equal(made.model.get_parameter(name), model.get_parameter(name))
    assert not torch.equal(made.model.lm_head.weight, model.lm_head.weight)
    made.save(tmp_path / "out")
