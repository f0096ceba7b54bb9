"""Train sentence classifiers from scratch: small BERTs on SST-2 that differ only in their seed.

python benchmarks/parents_sst2.py --seeds 1 2 3 4 5 6
"""

import argparse

import torch
from common import DATA
from subjects import SUBJECTS
from training import fastest_precision
from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

from transfuse import finetune

LENGTH = 64


def train_parent(seed: int, args: argparse.Namespace) -> None:
    subject = SUBJECTS["sst2"] if args.width == 64 else SUBJECTS["sst2-narrow"]
    words = BertTokenizerFast(str(DATA / "text" / "bert-base-uncased.vocab.txt"), model_max_length=LENGTH)
    torch.manual_seed(seed)
    model = BertForSequenceClassification(
        BertConfig(
            hidden_size=args.width, num_hidden_layers=args.blocks, num_attention_heads=4, num_labels=2,
            intermediate_size=4 * args.width, max_position_embeddings=LENGTH,
        )
    )  # fmt: skip
    tuned = finetune(
        model, subject.samples("train"), processor=words, seed=seed, epochs=args.epochs, learning_rate=1e-3,
        precision=fastest_precision(model.device), **subject.schedule,
    )  # fmt: skip
    print(f"seed {seed}: loss {tuned.record['losses'][-1][1]:.3f}", flush=True)
    tuned.save(subject.folder(str(seed)), "replace")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5, 6])
    parser.add_argument("--epochs", type=float, default=2.0)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--blocks", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    for seed in args.seeds:
        train_parent(seed, args)


if __name__ == "__main__":
    main()
