"""Fuse two small Llamas that were trained on Python's reference manual.

    python examples/llama.py

This takes two minutes on one core. Both models share one vocabulary of byte pairs, trained here on the same text.
Perplexities should be about 13 for the parents and the fusion, and 70 for the plain average. The fused model writes
text with more grammar than sense, as its parents do.

    transfuse fuse out/llama/parent-1 out/llama/parent-2 -o out/llama/again --data out/llama/topics --steps 200
    transfuse eval out/llama/again out/llama/parent-1 out/llama/parent-2 --data out/llama/topics
"""

from pathlib import Path

import torch
from common import pair_bytes, show, topics, trained
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM
from transformers.utils.logging import disable_progress_bar

import transfuse

OUT = Path("out/llama")
SCHEDULE = {"epochs": 8, "learning_rate": 4e-3, "batch_size": 16, "weight_decay": 0.1}

data = topics()
data.save_to_disk(OUT / "topics")
tokenizer = pair_bytes(data["train"]["text"], size=512, length=64)
config = LlamaConfig(
    vocab_size=len(tokenizer),
    hidden_size=64,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    intermediate_size=128,
    max_position_embeddings=64,
    bos_token_id=0,
    eos_token_id=0,
    pad_token_id=0,
)
parents = []
for seed in (1, 2):
    torch.manual_seed(seed)
    model = LlamaForCausalLM(config)
    parents.append(trained(model, data, tokenizer, OUT / f"parent-{seed}", seed, **SCHEDULE))

average = transfuse.fuse(parents, align="none").save(OUT / "average", "replace")
fused = transfuse.fuse(parents, data, steps=200).save(OUT / "fused", "replace")

show(
    {"parent 1": parents[0], "parent 2": parents[1], "plain average": average, "fusion": fused, "ensemble": parents},
    data,
)

disable_progress_bar()
model = AutoModelForCausalLM.from_pretrained(fused)  # an ordinary checkpoint
start = tokenizer("The expression is", return_tensors="pt")
written = model.generate(**start, max_new_tokens=24, do_sample=False, repetition_penalty=1.3)
print(tokenizer.decode(written[0]))
