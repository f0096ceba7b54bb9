"""Measure fusions with samples whose parents are loaded, or mapped from files: seconds and peak memory.

python benchmarks/large_data.py

The models are random Llamas in single precision: the first, and symmetric copies of it (the same function in another
basis). The samples are a few texts of random words, so that the models take most of the memory. Every fusion runs in
its own process. Anonymous memory is what the system cannot drop: all memory except the pages of mapped files.
"""

import argparse
import json
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from common import record
from datasets import Dataset
from large import watched
from safetensors.torch import load_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

import transfuse
from transfuse.alignment.exact.groups import random_alignment
from transfuse.alignment.transform import transform_all
from transfuse.checkpoint.reading.files import weight_files
from transfuse.network.model import network, with_tensors
from transfuse.network.symmetry import fold, symmetric

SHAPES: dict[str, dict[str, int]] = {
    "tiny": {
        "hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2,
        "intermediate_size": 176, "vocab_size": 512,
    },
    "deep": {
        "hidden_size": 512, "num_hidden_layers": 32, "num_attention_heads": 8, "num_key_value_heads": 4,
        "intermediate_size": 1408, "vocab_size": 4096,
    },
}  # fmt: skip
METHODS: dict[str, dict[str, Any]] = {
    "mean": {"match_on": "activations", "merge": "mean"},
    "least squares": {"merge": "least-squares"},
}
TEXTS = 12
WORDS = 24  # of each text


def parents(folder: Path, shape: dict[str, int], count: int) -> tuple[list[str], int]:
    """Write a random model and symmetric copies of it, with a tokenizer. Return their folders and their size."""
    torch.manual_seed(0)
    first = LlamaForCausalLM(LlamaConfig(**shape, max_position_embeddings=64, tie_word_embeddings=True)).eval()
    tokenizer = word_tokenizer(shape["vocab_size"])
    whole = network(first, torch.device("cpu"))
    spec = symmetric(whole.spec)
    for number in range(count):
        moved = transform_all(spec, fold(spec, whole.tensors), random_alignment(spec, number))
        model = with_tensors(first, moved) if number else first
        model.save_pretrained(folder / str(number))
        tokenizer.save_pretrained(folder / str(number))
    return [str(folder / str(number)) for number in range(count)], sum(values.nbytes for values in first.parameters())


def word_tokenizer(words: int) -> PreTrainedTokenizerFast:
    """Return a tokenizer of the words w0, w1, ..."""
    ids = {f"w{index}": index for index in range(words)}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(WordLevel(ids, "w0")), pad_token="w1")
    tokenizer._tokenizer.pre_tokenizer = WhitespaceSplit()
    return tokenizer


def texts(words: int) -> Dataset:
    """Return a few texts of random words."""
    drawn = torch.randint(2, words, (TEXTS, WORDS), generator=torch.Generator().manual_seed(0))
    return Dataset.from_dict({"text": [" ".join(f"w{word}" for word in row) for row in drawn.tolist()]})


def fuse(method: str, models: list[str], output: Path, stream: bool, words: int, threads: int) -> dict[str, Any]:
    """Measure one fusion in its own process."""
    facts = {"method": method, "models": len(models), "streamed": stream}
    return facts | costs(__file__, [method, models, str(output), words, stream], threads)


def costs(script: str, request: list[Any], threads: int) -> dict[str, float]:
    """Run a script with a request in a process of its own, and return its seconds and memory."""
    found, watch, seconds = watched([script, "--run", json.dumps(request)], threads)
    return {
        "seconds": seconds, "processor_seconds": watch.seconds, "anonymous_gb": watch.anonymous / 1e9,
        "peak_gb": watch.peak / 1e9, "written_gb": watch.written / 1e9, "start_gb": found["start_gb"],
    }  # fmt: skip


def run(method: str, models: list[str], output: str, words: int, stream: bool) -> None:
    """Fuse in this process, and print the memory that it took before."""
    import psutil

    memory = psutil.Process().memory_info()
    data = texts(words)
    transfuse.fuse(models, data, stream=stream, **METHODS[method]).save(output)
    print(json.dumps({"start_gb": (memory.rss - memory.shared) / 1e9}))


def both_ways(measured: Callable[[Path, bool], dict[str, Any]], folder: Path) -> list[dict[str, Any]]:
    """Measure a job with loaded and with mapped models, and whether both write equal tensors.

    Args:
        measured: measures the job, given where it writes and whether models are mapped.
    """
    outputs = [Path(tempfile.mkdtemp(dir=folder)) / "out" for _ in range(2)]
    rows = [measured(output, bool(stream)) for stream, output in enumerate(outputs)]
    rows[-1]["equal"] = same(*outputs)
    print(*rows, sep="\n", flush=True)
    return rows


def same(one: Path, other: Path) -> bool:
    """Return whether two checkpoints hold equal tensors."""
    first, second = (
        {name: values for file in weight_files(each) for name, values in load_file(file).items()}
        for each in (one, other)
    )
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def run_or_measure(
    parser: argparse.ArgumentParser,
    run: Callable[..., None],
    measure: Callable[[argparse.Namespace, Path], None],
) -> None:
    """Do the request of a process that `costs` started. Without one, measure in a folder that goes afterwards."""
    parser.add_argument("--shape", choices=SHAPES, default="deep")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--run", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.run:
        run(*json.loads(args.run))
        return
    with tempfile.TemporaryDirectory() as name:
        measure(args, Path(name))


def measure(args: argparse.Namespace, folder: Path) -> None:
    """Measure and record all methods and counts of models."""
    rows: list[dict[str, Any]] = []
    paths, size = parents(folder, SHAPES[args.shape], max(args.models))
    words = SHAPES[args.shape]["vocab_size"]
    facts = {"bytes_each": size, "shape": SHAPES[args.shape], "texts": TEXTS, "words": WORDS}
    for method in args.methods:
        for count in args.models:
            rows += both_ways(partial(fuse, method, paths[:count], words=words, threads=args.threads), folder)
            record("large-data" if args.shape == "deep" else f"large-data-{args.shape}", facts | {"rows": rows})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--models", nargs="+", type=int, default=[2, 3])
    run_or_measure(parser, run, measure)


if __name__ == "__main__":
    main()
