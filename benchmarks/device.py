"""Compare a GPU with the CPU of its machine: wall seconds of whole fusions, and memory on the GPU.

python benchmarks/device.py --shapes 256,6,32,1000 768,12,224,100

A shape is width, blocks, pixels, samples. The models are pairs of random ViTs as in `fuse.py`, and the samples are
CIFAR-10 images. The fusions run one after the other. The time includes reading, preparing images and writing. Rows that
exist already are not measured again.
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from common import DATA, resumed
from fuse import METHODS, parents

from transfuse import fuse

SHOWN = ("average", "flow", "exact", "exact, least squares")


def whole(models: list[Path], method: str, device: str, samples: int) -> dict[str, float]:
    """Measure one fusion, including the writing of its result."""
    data = {} if method == "average" else {"data": str(DATA / "cifar10" / "train.parquet"), "samples": samples}
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        fuse(models, device=device, **METHODS[method], **data).save(Path(folder) / "fused")
        seconds = time.perf_counter() - start
    return {"seconds": seconds} | ({"peak": torch.cuda.max_memory_allocated()} if device == "cuda" else {})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", required=True)
    parser.add_argument("--devices", nargs="+", default=["cuda", "cpu"])
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        warm = parents(Path(folder), 64, 2, 32)
        for method in SHOWN:  # loads libraries and selects kernels
            whole(warm, method, args.devices[0], 100)

        def measure(key: str) -> dict[str, Any]:
            shape, method, device = key.split("; ")
            width, blocks, pixels, samples = (int(number) for number in shape.split(","))
            found = whole(parents(Path(folder), width, blocks, pixels), method, device, samples)
            print(key, found, flush=True)
            return found

        keys = [f"{shape}; {method}; {device}" for shape in args.shapes for device in args.devices for method in SHOWN]
        resumed("device", keys, measure)


if __name__ == "__main__":
    main()
