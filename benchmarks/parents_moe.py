"""Train the mixtures of experts: small Qwen3-MoEs on Python source and prose that differ only in their seed.

python benchmarks/parents_moe.py --seeds 1 2 3

The code is the standard library of the running Python; every tenth file is for validation, and every tenth for tests.
The prose is War and Peace. Both have about as many tokens. The tokenizer is a byte-level BPE of both.
"""

import argparse
import math
import sysconfig
import time
from functools import cache
from pathlib import Path
from typing import Any

import torch
from common import PARENTS, parents_parser, save_parent, train_seeds
from texts import END, lines
from tokenizers.implementations import ByteLevelBPETokenizer
from torch import Tensor
from training import Recipe, train
from transformers import PreTrainedTokenizerFast, Qwen3MoeConfig, Qwen3MoeForCausalLM

THEMES = ("code", "prose")
CHARACTERS = 3_000_000  # of each theme, for training
LENGTH = 128  # tokens of a sample
VOCABULARY = 2048
SPLITS = {8: "validation", 9: "test"}


@cache
def text(theme: str, split: str) -> str:
    """Return the text of a split."""
    if theme == "prose":
        return "\n".join(lines(split, "warandpeace"))[:CHARACTERS]
    folder = Path(sysconfig.get_paths()["stdlib"])
    files = sorted([*folder.glob("*.py"), *folder.glob("[a-z]*/*.py")])
    files = [file for file in files if not {"test", "tests", "idlelib", "site-packages"} & {*file.parts}]
    own = [file for index, file in enumerate(files) if SPLITS.get(index % 10, "train") == split]
    return "\n\n".join(file.read_text(encoding="utf-8", errors="replace") for file in own)[:CHARACTERS]


@cache
def tokenizer() -> PreTrainedTokenizerFast:
    """Train the tokenizer, which is the same for all seeds."""
    words = ByteLevelBPETokenizer()
    pieces = [piece for theme in THEMES for piece in text(theme, "train").splitlines(keepends=True)]
    words.train_from_iterator(pieces, vocab_size=VOCABULARY, special_tokens=[END], show_progress=False)
    return PreTrainedTokenizerFast(
        tokenizer_object=words._tokenizer, model_max_length=LENGTH, bos_token=END, eos_token=END, pad_token=END
    )


def samples(theme: str, split: str) -> Tensor:
    """Return the tokens of a split as samples of equal length."""
    ids = torch.tensor(tokenizer()(text(theme, split), verbose=False)["input_ids"])
    return ids[: len(ids) // LENGTH * LENGTH].reshape(-1, LENGTH)


def build(args: argparse.Namespace) -> Qwen3MoeForCausalLM:
    """Return an untrained model."""
    words = tokenizer()
    config = Qwen3MoeConfig(
        vocab_size=len(words), hidden_size=args.width, num_hidden_layers=args.blocks, num_attention_heads=4,
        num_key_value_heads=2, head_dim=args.width // 4, moe_intermediate_size=args.hidden, num_experts=args.experts,
        num_experts_per_tok=args.active, norm_topk_prob=True, router_aux_loss_coef=0.01, max_position_embeddings=LENGTH,
        bos_token_id=words.eos_token_id, eos_token_id=words.eos_token_id, pad_token_id=words.eos_token_id,
    )  # fmt: skip
    return Qwen3MoeForCausalLM(config)


@torch.no_grad()
def losses(model: Qwen3MoeForCausalLM, split: str, limit: int) -> dict[str, float]:
    """Return the loss of each theme in nats per token, on the first samples of a split."""
    found = {}
    for theme in THEMES:
        parts = samples(theme, split)[:limit].split(50)
        found[theme] = sum(float(model(input_ids=part, labels=part).loss) * len(part) for part in parts)
        found[theme] /= sum(map(len, parts))
    return found


def train_parent(seed: int, args: argparse.Namespace) -> None:
    target = PARENTS / f"themes-moe-{args.experts}-{seed}"
    target.mkdir(parents=True, exist_ok=True)
    both = [samples(theme, "train") for theme in THEMES]
    few = min(map(len, both))
    inputs = torch.cat([part[:few] for part in both])
    torch.manual_seed(seed)
    model = build(args)
    recipe = Recipe(args.epochs, args.batch_size, args.learning_rate, weight_decay=0.1, warmup=0.05)
    begin = time.time()
    facts: dict[str, Any] = {"seed": seed, "recipe": vars(recipe), "validation": []}

    def loss(chosen: Tensor, generator: torch.Generator) -> Tensor:
        ids = inputs[chosen]
        result: Tensor = model(input_ids=ids, labels=ids, output_router_logits=True).loss  # with balanced experts
        return result

    def report(epoch: int, value: float) -> None:
        model.eval()
        facts["validation"].append(losses(model, "validation", 200))
        model.train()
        facts["seconds"] = round(time.time() - begin)
        print(f"seed {seed} epoch {epoch} loss {value:.3f} {facts['validation'][-1]} {facts['seconds']} s", flush=True)

    print(f"{len(inputs)} samples, {model.num_parameters():,} parameters", flush=True)
    train(model, len(inputs), loss, recipe, seed, report)
    assert math.isfinite(sum(facts["validation"][-1].values()))
    save_parent(target, model, tokenizer(), facts)


def main() -> None:
    parser = parents_parser(__doc__, seeds=[1], epochs=2)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--hidden", type=int, default=96)
    parser.add_argument("--blocks", type=int, default=4)
    parser.add_argument("--experts", type=int, default=16)
    parser.add_argument("--active", type=int, default=2)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--batch-size", type=int, default=16)
    train_seeds(parser, train_parent)


if __name__ == "__main__":
    main()
