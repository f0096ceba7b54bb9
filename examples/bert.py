"""Fuse two BERTs that classify docstrings by their package of the standard library.

    python examples/bert.py

This takes a minute on one core. Both models share one WordPiece vocabulary, which is trained here on the same
docstrings. The plain average should be far below its parents and the fusion close to them.

    transfuse fuse out/bert/parent-1 out/bert/parent-2 -o out/bert/again --data out/bert/docstrings \
        --merge least-squares
    transfuse eval out/bert/again out/bert/parent-1 out/bert/parent-2 --data out/bert/docstrings
"""

from pathlib import Path

import torch
from common import PACKAGES, docstrings, pieces, show, trained
from transformers import BertConfig, BertForSequenceClassification

import transfuse

OUT = Path("out/bert")
SCHEDULE = {"epochs": 8, "learning_rate": 2e-3, "batch_size": 32}

data = docstrings()
data.save_to_disk(OUT / "docstrings")
tokenizer = pieces(data["train"]["text"], size=2000, length=48)
config = BertConfig(
    vocab_size=len(tokenizer),
    hidden_size=64,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=128,
    max_position_embeddings=48,
    id2label=dict(enumerate(PACKAGES)),
    label2id={name: index for index, name in enumerate(PACKAGES)},
)
parents = []
for seed in (1, 2):
    torch.manual_seed(seed)
    model = BertForSequenceClassification(config)
    parents.append(trained(model, data, tokenizer, OUT / f"parent-{seed}", seed, **SCHEDULE))

average = transfuse.fuse(parents, align="none").save(OUT / "average", "replace")
fused = transfuse.fuse(parents, data, merge="least-squares").save(OUT / "fused", "replace")

show(
    {"parent 1": parents[0], "parent 2": parents[1], "plain average": average, "fusion": fused, "ensemble": parents},
    data,
)
