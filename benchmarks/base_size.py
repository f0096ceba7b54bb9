"""Measure whole fusions of models of base size: seconds by stage, against a floor, and peak memory.

python benchmarks/base_size.py --threads 2
python benchmarks/base_size.py --models Llama --ways floor "exact, least squares" --samples 480 --name base-size-480

The models are pairs of untrained Llamas, GPT-2s, BERTs and ViTs of 12 blocks and width 768. Texts have 64 to 128 random
words out of 16,384, and images have 224 x 224 pixels of noise. Every row is measured in its own process. The floor
loads both models, runs both and a third one over the samples, and writes one. `default` is the method that a user gets
with samples. It trains for as many minutes as it is allowed, so its seconds say nothing about its speed.
"""

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from common import record
from fuse import METHODS, apart, floor, measured
from plan_subjects import BASE_SUBJECTS

from transfuse import fuse

FITTED = "exact, least squares"
WAYS: dict[str, dict[str, Any]] = {
    "exact, weights": METHODS["exact, weights"],
    FITTED: METHODS[FITTED],
    "default": {},
}
BATCH = 8  # samples that the floor runs at a time


def write(name: str, folder: Path, count: int) -> tuple[list[Path], Path]:
    """Write two models and their samples."""
    return replace(BASE_SUBJECTS[name], samples=count).write(folder)


def one(way: str, models: list[Path], data: Path, count: int, minutes: float) -> dict[str, Any]:
    """Measure the seconds and the peak memory of one way."""
    options = {"default": {"minutes": minutes}}.get(way, WAYS.get(way, {}))
    given: dict[str, Any] = {} if way == "exact, weights" else {"data": str(data), "samples": count}

    def work(output: Path) -> None:
        if way == "floor":
            floor(models, str(data), count, output, fitted=True, at_once=BATCH)
        else:
            fuse(models, **given, **options).save(output)

    return measured(work, staged=way != "floor")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=list(BASE_SUBJECTS), default=list(BASE_SUBJECTS))
    parser.add_argument("--ways", nargs="+", choices=["floor", *WAYS], default=["floor", *WAYS])
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--samples", type=int, help="default: 48 texts or 24 images")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--name", default="base-size")
    args = parser.parse_args()
    torch.set_num_threads(1)  # a process with several threads cannot be forked; its children start them
    rows: list[dict[str, Any]] = []
    for name in args.models:
        count = args.samples or BASE_SUBJECTS[name].samples
        with tempfile.TemporaryDirectory() as folder:
            models, data = apart(write, name, Path(folder), count)
            for way in args.ways:
                row = apart(one, way, models, data, count, args.minutes, threads=args.threads)
                rows.append({"model": name, "way": way, "samples": count} | row)
                print(rows[-1], flush=True)
                record(args.name, {"seconds": "of processors; wall beside", "threads": args.threads, "rows": rows})


if __name__ == "__main__":
    main()
