"""Train the image parents: small ViTs that differ only in their seed.

python benchmarks/parents.py --dataset cifar10 --seeds 1 2 3 4 --epochs 12
python benchmarks/parents.py --dataset fashion-mnist --view moved --width 64 --blocks 4 --seeds 1 2 3
python benchmarks/parents.py --dataset cifar10 --width 256 --hidden 512 --heads 8 --patch 4 --epochs 30 \
  --learning-rate 3e-4 --weight-decay 1e-3 --label-smoothing 0 --device cuda --seeds 1 2 3
"""

import argparse
import time

import torch
from common import PARENTS, parents_parser, save_parent, split, train_seeds
from training import Recipe, train_classifier
from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessorPil
from views import MARGIN, viewed

from transfuse.cli.demo.digits import skewed

STATISTICS = {  # channel mean and deviation of the training pixels
    "cifar10": ([0.4914, 0.4822, 0.4465], [0.247, 0.2435, 0.2616]),
    "fashion-mnist": ([0.286], [0.353]),
}


def build(dataset: str, size: int, labels: list[str], args: argparse.Namespace) -> ViTForImageClassification:
    return ViTForImageClassification(
        ViTConfig(
            hidden_size=args.width,
            num_hidden_layers=args.blocks,
            num_attention_heads=args.heads,
            intermediate_size=args.hidden or 4 * args.width,
            image_size=size,
            patch_size=args.patch,
            num_channels=len(STATISTICS[dataset][0]),
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            id2label=dict(enumerate(labels)),
            label2id={label: index for index, label in enumerate(labels)},
            attn_implementation="eager" if args.device == "cpu" else "sdpa",
        )
    )


def train(seed: int, args: argparse.Namespace) -> None:
    dataset = args.dataset
    mean, deviation = STATISTICS[dataset]
    if args.view:
        mean = [0.0]  # so the background stays zero, like the pixels that random crops add
    rows, held_out = (
        viewed("centred", name) if args.view else split(dataset, name) for name in ("train", "validation")
    )
    if args.view == "moved":
        held_out = viewed("moved", "validation")
    if args.share < 1:
        draws = torch.rand(len(rows), generator=torch.Generator().manual_seed(0)).numpy()
        rows = skewed(rows, seed, args.share, draws)
    size = rows[0]["image"].size[0]
    processor = ViTImageProcessorPil(
        do_resize=False, image_mean=mean, image_std=deviation, size={"height": size, "width": size}
    )

    def prepare(rows):
        return processor(rows["image"][:], return_tensors="pt")["pixel_values"], torch.tensor(rows["label"][:])

    torch.manual_seed(seed)
    model = build(dataset, size, rows.features["label"].names, args).to(args.device)
    crops = {"centred": 0, "moved": MARGIN, None: 4 if dataset == "cifar10" else 2}
    recipe = Recipe(
        args.epochs, learning_rate=args.learning_rate, weight_decay=args.weight_decay,
        label_smoothing=args.label_smoothing, crop=crops[args.view], flip=True,
    )  # fmt: skip
    images, labels = (tensor.to(args.device) for tensor in prepare(rows))
    held, targets = (tensor.to(args.device) for tensor in prepare(held_out))
    start = time.time()

    def report(epoch: int, loss: float) -> None:
        model.eval()
        with torch.no_grad():
            correct = torch.cat([model(pixel_values=batch).logits.argmax(-1) for batch in held.split(1000)]) == targets
        model.train()
        print(f"{dataset} seed {seed} epoch {epoch} loss {loss:.3f} validation {correct.float().mean():.4f} "
              f"{time.time() - start:.0f} s", flush=True)  # fmt: skip

    train_classifier(model, images, labels, recipe, seed, report)
    kind = args.view or ("" if args.share == 1 else "skewed")
    name = args.name or f"{dataset}-vit-{args.width}" + (f"-{kind}" if kind else "")
    facts = {"seed": seed, "recipe": vars(recipe), "seconds": time.time() - start}
    save_parent(PARENTS / f"{name}-{seed}", model, processor, facts)


def main() -> None:
    parser = parents_parser(__doc__, seeds=[1, 2, 3, 4], epochs=12)
    parser.add_argument("--dataset", default="cifar10", choices=STATISTICS)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--hidden", type=int, help="units of a feed-forward layer; default: four times the width")
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--blocks", type=int, default=6)
    parser.add_argument("--patch", type=int, default=8)
    parser.add_argument("--learning-rate", type=float, default=Recipe.learning_rate)
    parser.add_argument("--weight-decay", type=float, default=Recipe.weight_decay)
    parser.add_argument("--label-smoothing", type=float, default=Recipe.label_smoothing)
    parser.add_argument(
        "--share", type=float, default=1.0, help="below 1: odd and even seeds see different data, see `skewed`"
    )
    parser.add_argument("--view", choices=["centred", "moved"], help="view of Fashion-MNIST on a larger canvas")
    parser.add_argument("--name", help="of the folders, before the seed")
    parser.add_argument("--device", default="cpu")
    train_seeds(parser, train)


if __name__ == "__main__":
    main()
