"""Measure the memory and the time of learned weights for language models with vocabularies of real size.

python benchmarks/vocabulary.py --before OTHER_CHECKOUT

Two random parents of two blocks and width 256, 25 texts of 256 tokens for a step, 5 texts for validation, one thread.
`--before` also measures the package of another checkout, such as a git worktree of an earlier commit.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch
from common import HERE, peak_bytes, record
from transformers import BertConfig, BertForMaskedLM, GPT2Config, GPT2LMHeadModel, PreTrainedModel

from transfuse.base.batch import IGNORED_LABEL, Batch
from transfuse.config.literals import LearningOptions
from transfuse.distillation.teacher_weighting import TEACHER_WEIGHTING
from transfuse.merging.training.learned_weights import WeightDistillation

TEXTS, HELD_OUT, TOKENS, WIDTH, BLOCKS, HEADS = 25, 5, 256, 256, 2, 4
MASKED_SHARE = 0.15
SIZES = {"GPT-2": 50_257, "BERT": 30_522}  # vocabulary of each kind


def build(kind: str, seed: int) -> PreTrainedModel:
    """Return a random model without dropout."""
    torch.manual_seed(seed)
    if kind == "GPT-2":
        config = GPT2Config(
            vocab_size=SIZES[kind], n_embd=WIDTH, n_layer=BLOCKS, n_head=HEADS, n_positions=TOKENS,
            resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
        )  # fmt: skip
        return GPT2LMHeadModel(config).eval()
    config = BertConfig(
        vocab_size=SIZES[kind], hidden_size=WIDTH, num_hidden_layers=BLOCKS, num_attention_heads=HEADS,
        intermediate_size=4 * WIDTH, max_position_embeddings=TOKENS, hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    return BertForMaskedLM(config).eval()


def texts(kind: str, count: int, seed: int) -> Batch:
    """Return random texts, labeled as for the kind of model."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(5, SIZES[kind], (count, TOKENS), generator=generator)
    if kind == "GPT-2":
        labels = torch.cat([ids[:, 1:], torch.full((count, 1), IGNORED_LABEL)], 1)
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}
    masked = torch.rand(ids.shape, generator=generator) < MASKED_SHARE
    labels = ids.masked_fill(~masked, IGNORED_LABEL)
    return {"input_ids": ids.masked_fill(masked, 4), "attention_mask": torch.ones_like(ids), "labels": labels}


def measured(kind: str, steps: int) -> dict[str, Any]:
    """Return the seconds of a step and the peak memory of this process, and the losses, which depend on no slices."""
    torch.set_num_threads(1)
    fused, parents = build(kind, 0), [build(kind, 1), build(kind, 2)]
    batches = [texts(kind, TEXTS, 1)], [texts(kind, HELD_OUT, 2)]
    start_bytes = peak_bytes()
    start = time.perf_counter()
    loop = WeightDistillation(
        fused, parents, [0.5, 0.5], batches, LearningOptions(steps=steps), TEACHER_WEIGHTING["auto"], (), 0
    )
    seconds = [time.perf_counter() - start]
    for _ in range(steps):
        start = time.perf_counter()
        loop.step()
        seconds.append(time.perf_counter() - start)
    loop.validate()
    return {
        "preparation_seconds": seconds[0],
        "first_step_seconds": seconds[1],
        "step_seconds": median(seconds[2:]),
        "batches_per_step": loop.batches_per_step,
        "start_bytes": start_bytes,
        "peak_bytes": peak_bytes(),
        "validation_losses": loop.validation_losses,
    }


def child(kind: str, steps: int, source: Path) -> dict[str, Any]:
    """Measure the package of a checkout in a process of its own."""
    environment = os.environ | {"PYTHONPATH": str(source / "src"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, "--child", kind, "--steps", str(steps)]
    output = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout
    row: dict[str, Any] = json.loads(output.splitlines()[-1])
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, help="another checkout that is measured too")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--child", choices=SIZES, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print(json.dumps(measured(args.child, args.steps)))
        return
    sources = {"after": HERE.parent} | ({"before": args.before} if args.before else {})
    rows = {f"{kind}, {name}": child(kind, args.steps, source) for kind in SIZES for name, source in sources.items()}
    for name, row in rows.items():
        print(name, row, flush=True)
    record("vocabulary", {"texts": TEXTS, "tokens": TOKENS, "width": WIDTH, "blocks": BLOCKS, "rows": rows})


if __name__ == "__main__":
    main()
