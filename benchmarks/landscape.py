"""Measure the plane through an anchor, the other aligned model, and their fusion by `transfuse fuse`.

python benchmarks/landscape.py

The fusion uses least squares, with the training split. The losses are measured on test images drawn at
random. The script writes results/landscape-SUBJECT.json and .png.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from common import DATA, RESULTS, record
from subjects import SUBJECTS


def transfuse(*arguments: object) -> dict[str, Any]:
    """Return the JSON output of a command."""
    command = [sys.executable, "-m", "transfuse", *map(str, arguments), "--json"]
    return dict(json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subject", choices=("cifar10", "fashion-mnist"), default="cifar10")
    parser.add_argument("--seeds", nargs=2, default=["1", "2"])
    parser.add_argument("--points", type=int, default=15)
    parser.add_argument("--limit", type=int, default=1000)
    args = parser.parse_args()
    anchor, other = (SUBJECTS[args.subject].folder(seed) for seed in args.seeds)
    name, data = f"landscape-{args.subject}", DATA / args.subject
    with tempfile.TemporaryDirectory() as folder:
        fused = Path(folder) / "fused"
        transfuse("fuse", anchor, other, "-o", fused, "--data", data, "--merge", "least-squares")
        plot = ["--plot", RESULTS / f"{name}.png"]
        grid = ["--points", args.points, "--limit", args.limit]
        found = transfuse("landscape", anchor, other, fused, "--data", data, *grid, *plot)
    for model in found["models"]:
        model["path"] = Path(model["path"]).name
    record(name, found)


if __name__ == "__main__":
    main()
