"""Measure jobs with mixtures of experts whose weights are loaded, or mapped from files: seconds and peak memory.

python benchmarks/large_experts.py

The models are random Qwen3-MoEs in single precision: the first, and a copy with the experts of every layer in another
order. `shrink` keeps half of the experts, without training. Every job runs in its own process. Anonymous memory is what
the system cannot drop: all memory except the pages of mapped files.
"""

import argparse
import json
from functools import partial
from pathlib import Path
from typing import Any

import torch
from common import load, record
from large_data import both_ways, costs, run_or_measure, texts, word_tokenizer
from rows import markdown
from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM

import transfuse

SHAPES: dict[str, dict[str, int]] = {
    "tiny": {"hidden_size": 64, "num_hidden_layers": 2, "num_experts": 4, "moe_intermediate_size": 32},
    "deep": {"hidden_size": 512, "num_hidden_layers": 8, "num_experts": 16, "moe_intermediate_size": 512},
}
SHARED = {"num_attention_heads": 8, "num_key_value_heads": 4, "num_experts_per_tok": 2, "vocab_size": 4096}
JOBS = ("fuse by weights", "shrink")


def models(folder: Path, shape: dict[str, int]) -> tuple[list[str], int]:
    """Write a random model and a copy with other positions of the experts. Return their folders and their size."""
    torch.manual_seed(0)
    config = Qwen3MoeConfig(**SHARED, **shape, head_dim=64, max_position_embeddings=64, tie_word_embeddings=False)
    model = Qwen3MoeForCausalLM(config).eval()
    size = sum(values.nbytes for values in model.parameters())
    tokenizer = word_tokenizer(SHARED["vocab_size"])
    for number in range(2):
        model.save_pretrained(folder / str(number), max_shard_size="200MB")
        tokenizer.save_pretrained(folder / str(number))
        for layer in model.model.layers:
            order = torch.randperm(shape["num_experts"])
            for values in (layer.mlp.gate.weight, layer.mlp.experts.gate_up_proj, layer.mlp.experts.down_proj):
                values.data = values.data[order]
    return [str(folder / str(number)) for number in range(2)], size


def run(job: str, paths: list[str], output: str, stream: bool) -> None:
    """Do a job in this process, and print the memory that it took before."""
    import psutil

    memory = psutil.Process().memory_info()
    if job == "shrink":
        data = texts(SHARED["vocab_size"])
        given = {"experts": 0.5, "effort": "quick", "device": "cpu"}
        transfuse.shrink(paths[0], data, stream=stream, **given).save(output)
    else:
        transfuse.fuse(paths, stream=stream, device="cpu").save(output)
    print(json.dumps({"start_gb": (memory.rss - memory.shared) / 1e9}))


def measured(job: str, paths: list[str], output: Path, stream: bool, threads: int) -> dict[str, Any]:
    """Measure one job in its own process."""
    return {"job": job, "streamed": stream} | costs(__file__, [job, paths, str(output), stream], threads)


def table() -> str:
    """Return the rows of the results as a table of Markdown."""
    rows = []
    for row in load("large-experts")["rows"]:
        name = f"`{row['job'].split()[0]}`, {'mapped' if row['streamed'] else 'loaded'}"
        sizes = [f"{row[key]:.2f} GB" for key in ("anonymous_gb", "peak_gb", "written_gb")]
        rows.append([name, f"{row['processor_seconds']:,.0f}", *sizes])
    return markdown(
        ["", "processor seconds", "peak memory without mapped pages", "peak memory with mapped pages", "written"], rows
    )


def measure(args: argparse.Namespace, folder: Path) -> None:
    """Measure and record all jobs."""
    rows: list[dict[str, Any]] = []
    paths, size = models(folder, SHAPES[args.shape])
    for job in JOBS:
        rows += both_ways(partial(measured, job, paths, threads=args.threads), folder)
    facts = {"bytes_each": size, "shape": SHARED | SHAPES[args.shape]}
    record("large-experts" if args.shape == "deep" else f"large-experts-{args.shape}", facts | {"rows": rows})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    run_or_measure(parser, run, measure)


if __name__ == "__main__":
    main()
