"""Train the language-model parents: small GPT-2s and Llamas that differ only in their seed.

python benchmarks/parents_lm.py --kind llama --seeds 1 2 3
python benchmarks/parents_lm.py --kind gpt2 --text tinyshakespeare --width 96 --heads 4 --epochs 8 --seeds 1 2 3 4 5 6
python benchmarks/parents_lm.py --kind gpt2 --text tinyshakespeare --width 256 --heads 4 --blocks 6 --epochs 30 \
  --batch-size 32 --dropout 0.2 --device cuda --seeds 1 2 3
python benchmarks/parents_lm.py --kind llama --text books --width 96 --heads 4 --epochs 8 --seeds 1 2 3 4 5 6
python benchmarks/parents_lm.py --kind llama --text books --width 96 --heads 8 --kv-heads 2 --head-size 12 \
  --epochs 8 --seeds 1 --name books-llama-small-heads

The GPT-2 has learned positions, LayerNorm, fused and biased projections, and tied embeddings. The Llama has rotary
positions, RMSNorm, three key-value heads for six query heads, SwiGLU and an untied head. The tokenizer is a byte-level
BPE trained on the training text. With `--text books`, odd seeds mostly read the plays, and even ones the novel.
"""

import argparse
import math
import time
from typing import Any

import torch
from common import PARENTS, parents_parser, save_parent, train_seeds
from texts import VOCABULARIES, byte_pairs, mostly, passages
from torch import Tensor
from torch.nn.functional import cross_entropy
from training import Recipe, autocast, train
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedModel

from transfuse.base.batch import IGNORED_LABEL


def build(kind: str, vocabulary: int, end: int, length: int, args: argparse.Namespace) -> PreTrainedModel:
    """Return an untrained model of a kind."""
    special = {"bos_token_id": end, "eos_token_id": end, "pad_token_id": end}
    if kind == "gpt2":
        return GPT2LMHeadModel(
            GPT2Config(
                vocab_size=vocabulary, n_positions=length, n_embd=args.width, n_layer=args.blocks, n_head=args.heads,
                resid_pdrop=args.dropout, embd_pdrop=args.dropout, attn_pdrop=0.0, attn_implementation="eager",
                **special,
            )
        )  # fmt: skip
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocabulary, max_position_embeddings=length, hidden_size=args.width,
            num_hidden_layers=args.blocks, num_attention_heads=args.heads,
            num_key_value_heads=args.kv_heads or args.heads // 2, head_dim=args.head_size,
            intermediate_size=args.width * 8 // 3, attn_implementation="eager", **special,
        )
    )  # fmt: skip


def next_tokens(model: PreTrainedModel, ids: Tensor, mask: Tensor) -> Tensor:
    """Return the mean cross-entropy of every token given the tokens before it, without padding at the end."""
    logits = model(input_ids=ids).logits[:, :-1]
    labels = ids.where(mask.bool(), IGNORED_LABEL)[:, 1:]
    return cross_entropy(logits.flatten(0, 1).float(), labels.flatten(), ignore_index=IGNORED_LABEL)


def train_parent(seed: int, args: argparse.Namespace) -> None:
    target = PARENTS / f"{args.name or f'{args.text}-{args.kind}-{args.width}'}-{seed}"
    target.mkdir(parents=True, exist_ok=True)
    words = byte_pairs(args.text)
    read = passages("train", args.text)
    inputs, held = (
        words(rows["text"][:], padding=True, truncation=True, return_tensors="pt")
        for rows in (mostly(read, 1 - seed % 2) if args.text == "books" else read, passages("validation", args.text))
    )
    torch.manual_seed(seed)
    model = build(args.kind, len(words), words.eos_token_id, words.model_max_length, args).to(args.device)
    inputs, held = ({name: values.to(args.device) for name, values in each.items()} for each in (inputs, held))
    recipe = Recipe(args.epochs, args.batch_size, args.learning_rate, weight_decay=0.1, warmup=0.1)
    start = time.time()
    facts: dict[str, Any] = {"seed": seed, "recipe": vars(recipe), "validation": []}

    def loss(chosen: Tensor, generator: torch.Generator) -> Tensor:
        ids, mask = (inputs[name][chosen.to(args.device)] for name in ("input_ids", "attention_mask"))
        longest = int(mask.sum(1).max())
        return next_tokens(model, ids[:, :longest], mask[:, :longest])

    def report(epoch: int, value: float) -> None:
        model.eval()
        with torch.no_grad(), autocast(model.device):
            parts = zip(held["input_ids"].split(50), held["attention_mask"].split(50), strict=True)
            found = float(torch.stack([next_tokens(model, *part) for part in parts]).mean())
        model.train()
        facts["validation"].append(found)
        facts["seconds"] = time.time() - start
        print(f"seed {seed} epoch {epoch} loss {value:.3f} validation {found:.3f} perplexity {math.exp(found):.1f}"
              f" {facts['seconds']:.0f} s", flush=True)  # fmt: skip

    train(model, len(inputs["input_ids"]), loss, recipe, seed, report)
    save_parent(target, model, words, facts)


def main() -> None:
    parser = parents_parser(__doc__, epochs=10)
    parser.add_argument("--kind", choices=["gpt2", "llama"], required=True)
    parser.add_argument("--text", choices=VOCABULARIES, default="warandpeace")
    parser.add_argument("--width", type=int, default=192)
    parser.add_argument("--heads", type=int, default=6)
    parser.add_argument("--kv-heads", type=int, help="of the Llama; default: one for two query heads")
    parser.add_argument("--head-size", type=int, help="of the Llama; default: the width divided by the heads")
    parser.add_argument("--blocks", type=int, default=4)
    parser.add_argument("--dropout", type=float, default=0.1, help="for GPT-2; the Llama has no dropout")
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--name", help="of the parents' folders, before the seed; default: text, kind and width")
    train_seeds(parser, train_parent)


if __name__ == "__main__":
    main()
