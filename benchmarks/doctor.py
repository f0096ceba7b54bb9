"""Measure how exactly `transfuse doctor` recovers models of every kind from a fusion with a symmetric copy.

python benchmarks/doctor.py

The models are aligned by weights, in the stored precision and in bfloat16. The script writes results/doctor.json and
prints the table of docs/doctor.md.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import torch
from common import record
from landscape import transfuse
from subjects import SUBJECTS

from transfuse.checkpoint.reading.load import load_model

KINDS = {
    "cifar10": "ViT, CIFAR-10", "fashion-mnist": "ViT, Fashion-MNIST", "sst2": "BERT, SST-2",
    "warandpeace": "BERT, War and Peace", "tinyshakespeare-gpt2": "GPT-2, Tiny Shakespeare",
    "tinyshakespeare-llama": "Llama, Tiny Shakespeare",
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", default="1", help="seed of the parents")
    seed = parser.parse_args().seed
    rows: list[dict[str, Any]] = []
    for subject, label in KINDS.items():
        for dtype in (torch.float32, torch.bfloat16):
            with tempfile.TemporaryDirectory() as folder:
                load_model(SUBJECTS[subject].folder(seed), dtype=dtype).save_pretrained(folder)
                found = transfuse("doctor", folder)
            found["model"]["path"] = Path(SUBJECTS[subject].folder(seed)).name
            rows.append({"label": label} | found)
            record("doctor", {"rows": rows})
    print(
        "| model | stored in | declaration | symmetric copy | fused | plain average |"
        " units in place, before and after |"
    )
    print("|---|---|---|---|---|---|---|")
    for row in rows:
        proof, spaces = row["recovery"], row["spaces"]
        before, after = (
            max(each["in_place_before"] for each in spaces), min(each["in_place_after"] for each in spaces)
        )  # fmt: skip
        print(
            f"| {row['label']} | {row['model']['dtype']} | {row['declaration']:.0e} | {proof['copy']:.0e} |"
            f" {proof['fused']:.0e} | {proof['plain']:.2f} | at most {before:.1%}, at least {after:.1%} |"
        )


if __name__ == "__main__":
    main()
