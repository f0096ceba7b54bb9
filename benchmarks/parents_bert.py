"""Train the text parents: small masked-language BERTs on War and Peace that differ only in their seed.

python benchmarks/parents_bert.py --seeds 1 2 3
"""

import argparse
import time

import torch
from common import PARENTS, parents_parser, save_parent, train_seeds
from texts import LENGTH, passages, tokenizer
from torch import Tensor
from torch.nn.functional import cross_entropy
from training import Recipe, autocast, train
from transformers import BertConfig, BertForMaskedLM

from transfuse.base.batch import IGNORED_LABEL
from transfuse.data.text.texts import mask_tokens


def masked_loss(model: BertForMaskedLM, ids: Tensor, mask: Tensor, labels: Tensor) -> Tensor:
    """Return the loss. Logits are computed only for masked tokens."""
    states = model.bert(input_ids=ids, attention_mask=mask).last_hidden_state
    return cross_entropy(model.cls(states[labels != IGNORED_LABEL]).float(), labels[labels != IGNORED_LABEL])


def train_parent(seed: int, args: argparse.Namespace) -> None:
    target = PARENTS / f"warandpeace-bert-{args.width}-{seed}"
    words = tokenizer(target)
    inputs, held = (
        words(passages(name)["text"][:], padding=True, truncation=True, return_tensors="pt")
        for name in ("train", "validation")
    )
    torch.manual_seed(seed)
    model = BertForMaskedLM(
        BertConfig(
            vocab_size=len(words), hidden_size=args.width, num_hidden_layers=args.blocks,
            num_attention_heads=args.heads, intermediate_size=4 * args.width, max_position_embeddings=LENGTH,
            hidden_dropout_prob=args.dropout, attention_probs_dropout_prob=0.0, attn_implementation="eager",
        )
    )  # fmt: skip
    recipe = Recipe(args.epochs, batch_size=16, learning_rate=args.learning_rate, warmup=0.1)
    start = time.time()

    def hide(ids: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        special = torch.tensor(words.all_special_ids)
        return mask_tokens(ids, special, words.mask_token_id, len(words), generator)

    def loss(chosen: Tensor, generator: torch.Generator) -> Tensor:
        ids, labels = hide(inputs["input_ids"][chosen], generator)
        return masked_loss(model, ids, inputs["attention_mask"][chosen], labels)

    def report(epoch: int, value: float) -> None:
        ids, labels = hide(held["input_ids"], torch.Generator().manual_seed(0))
        parts = zip(*(each.split(50) for each in (ids, held["attention_mask"], labels)), strict=True)
        model.eval()
        with torch.no_grad(), autocast(model.device):
            found = torch.stack([masked_loss(model, *part) for part in parts]).mean()
        model.train()
        spent = time.time() - start
        print(f"seed {seed} epoch {epoch} loss {value:.3f} validation {found:.3f} {spent:.0f} s", flush=True)

    train(model, len(inputs["input_ids"]), loss, recipe, seed, report)
    facts = {"seed": seed, "recipe": vars(recipe), "seconds": time.time() - start}
    save_parent(target, model, words, facts)


def main() -> None:
    parser = parents_parser(__doc__, epochs=16)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--blocks", type=int, default=4)
    parser.add_argument("--dropout", type=float, default=0.0)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    train_seeds(parser, train_parent)


if __name__ == "__main__":
    main()
