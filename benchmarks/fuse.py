"""What a whole fusion costs, start to end: seconds and peak memory by size, beside the floor.

python benchmarks/fuse.py --widths 128 384

Pairs of random ViTs, 32 x 32 pixels in 65 tokens, CIFAR-10 images as samples. Every row is a process of its own. The
floor: load both models, one forward pass of both over the samples, write one. `blank` is a process that only imports.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from common import DATA, record
from rich.console import Console
from rich.table import Table
from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessorPil

WAYS: dict[str, dict[str, Any]] = {
    "average": {"align": "none"},
    "flow": {"align": "flow"},
    "exact, weights": {"align": "exact", "evidence": "weights", "merge": "mean"},
    "exact, least squares": {"align": "exact"},
}
LOOK = ("flow", "exact, least squares")  # at samples


def parents(folder: Path, width: int, layers: int) -> list[Path]:
    """Two untrained ViTs."""
    found = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        config = ViTConfig(
            hidden_size=width, num_hidden_layers=layers, num_attention_heads=width // 32, intermediate_size=4 * width,
            image_size=32, patch_size=4, num_labels=10,
        )  # fmt: skip
        found.append(folder / f"{width}-{layers}-{seed}")
        ViTForImageClassification(config).save_pretrained(found[-1])
        ViTImageProcessorPil(do_resize=False, size={"height": 32, "width": 32}).save_pretrained(found[-1])
    return found


def floor(models: list[str], samples: int, output: Path) -> None:
    """Read, look once, write."""
    from transfuse.io.data import load_samples
    from transfuse.io.splits import CALIBRATION
    from transfuse.tasks import own_preparer

    loaded = [ViTForImageClassification.from_pretrained(model) for model in models]
    drawn = load_samples(str(DATA / "cifar10" / "train.parquet"), CALIBRATION).take(samples, 0)
    with torch.no_grad():
        for batch in drawn.batches(own_preparer(models[0], loaded[0]), 16):
            for model in loaded:
                model(**{name: values for name, values in batch.items() if name != "labels"})
    loaded[0].save_pretrained(output)


def one(way: str, models: list[str], samples: int, threads: int) -> None:
    """In a process of its own: seconds after start-up, and peak memory."""
    torch.set_num_threads(threads)
    import transfuse

    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "fused"
        start = time.perf_counter()
        if way == "floor":
            floor(models, samples, output)
        elif way in WAYS:
            looks = way in LOOK
            data = str(DATA / "cifar10" / "train.parquet") if looks else None
            sizes = {"samples": samples} if looks else {}
            transfuse.fuse(models, data, **WAYS[way], **sizes).save(output)
        seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print("FOUND", json.dumps({"seconds": seconds, "peak_mib": peak}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--widths", type=int, nargs="+", default=[128, 384])
    parser.add_argument("--layers", type=int, default=7)
    parser.add_argument("--samples", type=int, default=200)
    parser.add_argument("--ways", nargs="+", default=["blank", "floor", *WAYS])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        return one(args.one[0], args.one[1:], args.samples, args.threads)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for width in args.widths:
            models = list(map(str, parents(Path(folder), width, args.layers)))
            for way in args.ways:
                settings = ["--samples", str(args.samples), "--threads", str(args.threads)]
                done = subprocess.run(
                    [sys.executable, __file__, *settings, "--one", way, *models], capture_output=True, text=True
                )
                found = [line for line in done.stdout.splitlines() if line.startswith("FOUND")]
                if not found:
                    raise SystemExit(done.stderr)
                rows.append({"width": width, "layers": args.layers, "way": way} | json.loads(found[0][5:]))
                print(rows[-1], flush=True)
                record("fuse", {"samples": args.samples, "rows": rows})
    table = Table("width", "way", "seconds", "over the floor", "peak memory (MiB)")
    for row in rows:
        floors = {each["width"]: each["seconds"] for each in rows if each["way"] == "floor"}
        ratio = f"{row['seconds'] / floors[row['width']]:.1f} x"
        table.add_row(str(row["width"]), row["way"], f"{row['seconds']:.1f}", ratio, f"{row['peak_mib']:.0f}")
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
