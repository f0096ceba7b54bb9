"""Compare the peak memory that `transfuse plan` predicts with the measured one, loaded and streamed.

python benchmarks/plan.py

The checkpoints are random and deleted afterwards: ViTs in float32 by width, Llamas in bfloat16. Every fusion runs in
its own process. Rows of methods other than the given ones are kept. benchmarks/plan_data.py adds fusions with samples.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import torch
from common import RESULTS, record
from large import METHODS, SHAPES, parents, run
from rich.console import Console
from rich.table import Table
from transformers import ViTConfig, ViTForImageClassification


def vits(folder: Path, width: int) -> list[Path]:
    """Two untrained ViTs of 12 blocks."""
    found = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        config = ViTConfig(
            hidden_size=width, num_hidden_layers=12, num_attention_heads=width // 64, intermediate_size=4 * width
        )
        found.append(folder / f"{width}-{seed}")
        ViTForImageClassification(config).save_pretrained(found[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--widths", type=int, nargs="+", default=[192, 384, 768])
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=["tiny", "small"])
    parser.add_argument("--ways", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="folder for the checkpoints, which are deleted afterwards")
    args = parser.parse_args()
    path = RESULTS / "plan.json"
    before = json.loads(path.read_text())["rows"] if path.exists() else []
    rows: list[dict[str, Any]] = [row for row in before if row["way"] not in args.ways]
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        folder = Path(name)
        pairs = {f"ViT {width}": vits(folder, width) for width in args.widths}
        for shape in args.shapes:
            (folder / shape).mkdir()
            pairs[f"Llama {shape}"] = list(parents(folder / shape, SHAPES[shape])[:2])
        for label, models in pairs.items():
            for method in args.ways:
                for streamed in (False, True):
                    given = [*map(str, models), *METHODS[method]]
                    plan, *_ = run(["plan", *given], args.threads)
                    least = plan["streamed_bytes"] if streamed else 10**12
                    output = folder / f"{label}-{method}-{streamed}"
                    found, watch, seconds = run(
                        ["fuse", *given, "-o", str(output), "--max-memory", str(least)], args.threads
                    )
                    if found.get("streamed", False) != streamed:
                        continue  # too small to be streamed
                    row = {
                        "models": label, "way": method, "streamed": streamed, "seconds": seconds,
                        "peak_bytes": watch.peak,
                        "predicted_bytes": plan["streamed_bytes" if streamed else "loaded_bytes"],
                    }  # fmt: skip
                    rows.append(row)
                    print(row, flush=True)
                    record("plan", {"rows": rows})
    show(rows)


def show(rows: list[dict[str, Any]]) -> None:
    """Print the measured memory, and the ratio of predicted to measured memory."""
    table = Table("models", "method", "", "seconds", "peak, GB", "predicted / measured")
    for row in rows:
        table.add_row(
            row["models"], row["way"], "streamed" if row["streamed"] else "loaded", f"{row['seconds']:.1f}",
            f"{row['peak_bytes'] / 1e9:.2f}", f"{row['predicted_bytes'] / row['peak_bytes']:.2f}",
        )  # fmt: skip
    Console().print(table)


if __name__ == "__main__":
    main()
