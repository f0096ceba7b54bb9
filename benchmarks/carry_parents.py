"""Train bases from different seeds, and a fine-tune of each: what `carry.py` carries from one base to another.

python benchmarks/carry_parents.py --subjects cifar10 turns wider books --seeds 1 2 3

`cifar10`: the bases are small ViTs that see the same 20,000 upright images. The fine-tunes see 10,000 others, turned by
a quarter, with labels. `turns`: fine-tunes of the same bases get a new head, and learn on these 10,000 images by how
many quarters each was turned. `wider`: as `cifar10`, but the models are half as wide again. `books`: the bases are
small GPT-2s that read passages of War and Peace, and the fine-tunes read Tiny Shakespeare. Models that exist are kept.
"""

import argparse
from pathlib import Path
from typing import Any

import torch
from common import PARENTS, parents_parser, split
from one_base_parents import new_model, prepared, processor
from parents_lm import build, next_tokens
from texts import BOOKS, byte_pairs, passages
from torch import Tensor
from training import Recipe, train, train_classifier
from transformers import GPT2LMHeadModel, PreTrainedModel, ViTForImageClassification

BASE_IMAGES = slice(0, 20_000)
TASK_IMAGES = slice(20_000, 30_000)
BASE = Recipe(epochs=10, crop=4, flip=True)
TUNING = Recipe(epochs=3, learning_rate=5e-4, crop=4, flip=True)
QUARTERS = 4
READING = Recipe(epochs=6, batch_size=16, weight_decay=0.1, warmup=0.1)
TUNING_BOOK = Recipe(epochs=2, batch_size=16, learning_rate=5e-4, weight_decay=0.1, warmup=0.1)
WIDER = {"hidden_size": 144, "intermediate_size": 576}
GPT2_SHAPE = argparse.Namespace(width=96, heads=4, blocks=4, dropout=0.0)
PASSAGES = 1600  # of each book; those after them were seen by no model


def folder(seed: int, name: str, subject: str = "cifar10") -> Path:
    """Return where the model of a seed is: `base` or `tuned`."""
    return PARENTS / f"carry-{'cifar10' if (subject, name) == ('turns', 'base') else subject}-{seed}" / name


def turned(images: Tensor) -> Tensor:
    """Return images turned by a quarter."""
    return images.rot90(1, (2, 3))


def turns(images: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Return images turned by a random number of quarters each, and these numbers."""
    quarters = torch.randint(QUARTERS, (len(images),), generator=torch.Generator().manual_seed(seed))
    turned_all = torch.stack([image.rot90(int(count), (1, 2)) for image, count in zip(images, quarters, strict=True)])
    return turned_all, quarters


def train_images(subject: str, seed: int, images: Tensor, labels: Tensor, names: list[str]) -> None:
    """Train a base and a fine-tune for images."""
    path = folder(seed, "base", subject)
    if not path.exists():
        torch.manual_seed(seed)
        model = new_model(dict(enumerate(names)), **(WIDER if subject == "wider" else {}))
        train_classifier(model, images[BASE_IMAGES], labels[BASE_IMAGES], BASE, seed)
        save(model, processor(), path)
    if folder(seed, "tuned", subject).exists():
        return
    task = (turned(images[TASK_IMAGES]), labels[TASK_IMAGES])
    given: dict[str, Any] = {"attn_implementation": "eager"}
    if subject == "turns":
        torch.manual_seed(seed)
        names = [f"{count} quarters" for count in range(QUARTERS)]
        given |= {"id2label": dict(enumerate(names)), "ignore_mismatched_sizes": True}
        task = turns(images[TASK_IMAGES], seed)
    model = ViTForImageClassification.from_pretrained(path, **given)
    train_classifier(model, *task, TUNING, seed)
    save(model, processor(), folder(seed, "tuned", subject))


def train_texts(seed: int) -> None:
    """Train a base on one book, and tune it on another."""
    words = byte_pairs("books")
    for name, book, recipe in (("base", BOOKS[1], READING), ("tuned", BOOKS[0], TUNING_BOOK)):
        if folder(seed, name, "books").exists():
            continue
        torch.manual_seed(seed)
        if name == "base":
            model = build("gpt2", len(words), words.eos_token_id, words.model_max_length, GPT2_SHAPE)
        else:
            model = GPT2LMHeadModel.from_pretrained(folder(seed, "base", "books"), attn_implementation="eager")
        texts = passages("train", book).take(PASSAGES)["text"][:]
        inputs = words(texts, padding=True, truncation=True, return_tensors="pt")
        train(model, PASSAGES, lambda chosen, generator: reading_loss(model, inputs, chosen), recipe, seed, report)  # noqa: B023
        save(model, words, folder(seed, name, "books"))


def reading_loss(model: PreTrainedModel, inputs: dict[str, Tensor], chosen: Tensor) -> Tensor:
    """Return the loss of some passages."""
    ids, mask = (inputs[name][chosen] for name in ("input_ids", "attention_mask"))
    longest = int(mask.sum(1).max())
    return next_tokens(model, ids[:, :longest], mask[:, :longest])


def report(epoch: int, loss: float) -> None:
    """Show the loss of an epoch."""
    print(f"epoch {epoch}: loss {loss:.3f}", flush=True)


def save(model: PreTrainedModel, prepares: object, target: Path) -> None:
    """Save a model with its processor."""
    model.save_pretrained(target)
    prepares.save_pretrained(target)  # type: ignore[attr-defined]
    print(target, flush=True)


def main() -> None:
    parser = parents_parser(__doc__)
    parser.add_argument("--subjects", nargs="+", default=["cifar10"], choices=["cifar10", "turns", "wider", "books"])
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    for subject in args.subjects:
        if subject == "books":
            for seed in args.seeds:
                train_texts(seed)
            continue
        rows = split("cifar10", "train")
        images, labels = prepared(rows.select(range(TASK_IMAGES.stop)), processor())
        for seed in args.seeds:
            train_images(subject, seed, images, labels, rows.features["label"].names)


if __name__ == "__main__":
    main()
