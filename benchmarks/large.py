"""Measure fusions of weights that do not fit into memory: seconds, peak memory, and bytes read and written.

python benchmarks/large.py --shape 3b --ways none exact --max-memory 8GB

The models are two random Llama-shaped checkpoints in bfloat16. The second is a symmetric copy of the first: it has the
same function in another basis (a random element of every exact group), so an exact fusion must recover the first. They
are written tensor by tensor and deleted afterwards. Every fusion runs in its own process. The row `copied` is the time
to read both checkpoints and write one.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import psutil
import torch
from common import record
from rich.console import Console
from rich.table import Table
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from transfuse.alignment.exact.groups import random_alignment
from transfuse.alignment.transform import transform_all
from transfuse.base.lazy import Lazy
from transfuse.checkpoint.writing.safetensors_writer import write_shards
from transfuse.fusion.models.compatible import stored_network
from transfuse.network.layout import join_fused, unfused
from transfuse.network.model import declaration
from transfuse.network.symmetry import fold, symmetric

SHAPES: dict[str, dict[str, int]] = {
    "tiny": {
        "hidden_size": 256, "num_hidden_layers": 4, "num_attention_heads": 8, "num_key_value_heads": 4,
        "intermediate_size": 768, "vocab_size": 2048,
    },
    "small": {
        "hidden_size": 1024, "num_hidden_layers": 8, "num_attention_heads": 16, "num_key_value_heads": 4,
        "intermediate_size": 2816, "vocab_size": 8192,
    },
    "1b": {
        "hidden_size": 2048, "num_hidden_layers": 16, "num_attention_heads": 32, "num_key_value_heads": 8,
        "intermediate_size": 5632, "vocab_size": 32000,
    },
    "3b": {
        "hidden_size": 3072, "num_hidden_layers": 28, "num_attention_heads": 24, "num_key_value_heads": 8,
        "intermediate_size": 8192, "vocab_size": 32000,
    },
}  # fmt: skip
METHODS = {
    "none": ["--align", "none"], "exact": ["--align", "exact"],
    "flow, hard": ["--align", "flow", "--flow.plan", "hard"],
    "flow": ["--align", "flow"],
}  # fmt: skip
SHARD = 5 * 10**9  # bytes


def parents(folder: Path, shape: dict[str, int]) -> tuple[Path, Path, int]:
    """Write a random model and a symmetric copy. Return their folders and the number of parameters."""
    with torch.device("meta"):
        model = LlamaForCausalLM(LlamaConfig(**shape, tie_word_embeddings=False)).to(torch.bfloat16)
    sizes = {name: tuple(values.shape) for name, values in model.state_dict().items()}
    generator = torch.Generator().manual_seed(0)

    def random(name: str) -> Tensor:
        values = torch.randn(sizes[name], generator=generator)
        return 1 + 0.1 * values if values.ndim == 1 else values / sizes[name][-1] ** 0.5

    one, two = folder / "one", folder / "two"
    _write(one, model, sizes, Lazy({name: partial(random, name) for name in sizes}))
    first = stored_network(one, model, torch.device("cpu"))
    spec = symmetric(unfused(declaration(model)))
    maps = random_alignment(spec, 1)
    _write(two, model, sizes, join_fused(declaration(model), transform_all(spec, fold(spec, first.tensors), maps)))
    return one, two, sum(map(prod, sizes.values()))


def _write(folder: Path, model: LlamaForCausalLM, sizes: dict[str, tuple[int, ...]], tensors: Lazy) -> None:
    folder.mkdir()
    model.config.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text()) | {"architectures": ["LlamaForCausalLM"]}
    (folder / "config.json").write_text(json.dumps(config))
    groups: list[dict[str, tuple[int, ...]]] = [{}]
    for name, size in sizes.items():
        if groups[-1] and 2 * sum(map(prod, [*groups[-1].values(), size])) > SHARD:
            groups.append({})
        groups[-1][name] = size
    names = [f"model-{i + 1:05}-of-{len(groups):05}.safetensors" for i in range(len(groups))]
    names = names if len(groups) > 1 else ["model.safetensors"]
    shards = dict(zip(names, groups, strict=True))
    write_shards(folder, shards, torch.bfloat16, lambda name: tensors[name].to(torch.bfloat16))


class Watch(threading.Thread):
    """Watches a process every tenth of a second: peak memory with mapped files, bytes read and written, and seconds."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        super().__init__(daemon=True)
        self.process = psutil.Process(process.pid)
        self.peak = self.anonymous = self.read = self.written = 0
        self.seconds = 0.0

    def run(self) -> None:
        while True:
            try:
                memory, io, times = self.process.memory_info(), self.process.io_counters(), self.process.cpu_times()
            except psutil.Error:
                return
            self.peak = max(self.peak, memory.rss)
            self.anonymous = max(self.anonymous, memory.rss - memory.shared)
            self.read, self.written, self.seconds = io.read_chars, io.write_chars, times.user + times.system
            time.sleep(0.1)


def run(arguments: list[str], threads: int) -> tuple[dict[str, Any], Watch, float]:
    """Run a command of transfuse. Return what `watched` does."""
    return watched(["-m", "transfuse", *arguments, "--json"], threads)


def watched(arguments: list[str], threads: int) -> tuple[dict[str, Any], Watch, float]:
    """Run Python. Return its JSON output, its use of resources, and the wall seconds including imports."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, *arguments]
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    watch = Watch(process)
    watch.start()
    out, error = process.communicate()
    if process.returncode:
        raise SystemExit(error)
    return json.loads(out), watch, time.perf_counter() - start


def fuse(method: str, models: list[Path], output: Path, max_memory: str, threads: int) -> dict[str, Any]:
    """Measure one fusion in its own process."""
    given = ["fuse", *map(str, models), "-o", str(output), *METHODS[method], "--max-memory", max_memory]
    found, watch, seconds = run(given, threads)
    return {
        "seconds": seconds, "processor_seconds": watch.seconds, "until_written": found["seconds"],
        "streamed": found.get("streamed", False),
        "peak_gb": watch.peak / 1e9, "anonymous_gb": watch.anonymous / 1e9, "written_gb": watch.written / 1e9,
    }  # fmt: skip


def copied(models: list[Path], output: Path) -> dict[str, Any]:
    """Measure how long it takes to read both checkpoints and write one."""
    start = time.perf_counter()
    for model in models:
        for file in model.glob("*.safetensors"):
            with file.open("rb") as stream:
                while stream.read(2**24):
                    pass
    shutil.copytree(models[0], output)
    os.sync()
    return {"seconds": time.perf_counter() - start}


def deviation(one: Path, other: Path) -> float:
    """Return the relative root mean square error of the recovered weights, for the worst tensor.

    Both models are compared in the canonical form, in which norms are folded.
    """
    from transfuse.alignment.exact.canonical_form import canonicalize

    with torch.device("meta"):
        model = LlamaForCausalLM(LlamaConfig.from_pretrained(one)).to(torch.bfloat16)
    spec = symmetric(unfused(declaration(model)))
    ours, theirs = (
        canonicalize(spec, stored_network(each, model, torch.device("cpu")).tensors) for each in (one, other)
    )
    return max(float((ours[name] - theirs[name]).norm() / ours[name].norm()) for name in ours)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="3b")
    parser.add_argument("--ways", nargs="+", choices=METHODS, default=["none", "exact"])
    parser.add_argument("--max-memory", default="8GB")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="folder for the checkpoints, which are deleted afterwards")
    args = parser.parse_args()
    rows: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        folder = Path(name)
        start = time.perf_counter()
        one, two, parameters = parents(folder, SHAPES[args.shape])
        size = sum(file.stat().st_size for file in one.glob("*.safetensors"))
        print(f"{parameters / 1e9:.2f} billion parameters, {size / 1e9:.1f} GB each, made in", end=" ")
        print(f"{time.perf_counter() - start:.0f} s", flush=True)
        rows["copied"] = copied([one, two], folder / "copy")
        shutil.rmtree(folder / "copy")
        for method in args.ways:
            rows[method] = fuse(method, [one, two], folder / "out", args.max_memory, args.threads)
            if method == "exact":
                rows[method]["deviation"] = deviation(one, folder / "out")
            print(method, rows[method], flush=True)
            shutil.rmtree(folder / "out")
            facts = {"parameters": parameters, "bytes_each": size, "shape": SHAPES[args.shape]}
            record(f"large-{args.shape}", facts | {"rows": rows})
    table = Table("method", "seconds", "relative to a copy", "peak memory, GB")
    for method, row in rows.items():
        peak = f"{row['peak_gb']:.1f}" if "peak_gb" in row else ""
        table.add_row(method, f"{row['seconds']:.0f}", f"{row['seconds'] / rows['copied']['seconds']:.1f}", peak)
    Console().print(table)


if __name__ == "__main__":
    main()
