"""Define what all benchmarks share: the folders of data and parents, and the JSON record with its machine."""

import argparse
import json
import os
import platform
import sys
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch
import transformers
from datasets import Dataset, load_dataset
from transformers import PreTrainedModel

from transfuse.alignment.interface import AlignContext, Alignment, aligned_weights
from transfuse.merging.methods import MERGE_FUNCTIONS
from transfuse.merging.request import MergeRequest
from transfuse.network.model import Network

HERE = Path(__file__).parent
RESULTS = HERE / "results"
DATA = Path(os.environ.get("TRANSFUSE_DATA", HERE.parent / ".." / "shared" / "data"))
PARENTS = Path(os.environ.get("TRANSFUSE_PARENTS", HERE / "parents"))
VALIDATION = 5000  # the last images of a training file, used only for tuning, never for training


def split(dataset: str, name: str) -> Dataset:
    """Return the split `train` (without its last 5,000 rows), `validation` (these rows) or `test` of a data set."""
    stored = "test" if name == "test" else "train"
    rows = load_dataset("parquet", data_files=str(DATA / dataset / f"{stored}.parquet"), split="train")
    if name == "test":
        return rows
    edge = len(rows) - VALIDATION
    return rows.select(range(edge) if name == "train" else range(edge, len(rows)))


def spread(values: Iterable[float], digits: int = 3, factor: float = 1) -> str:
    """Format the mean and standard deviation of the values, times a factor."""
    found = [factor * value for value in values]
    middle = round(mean(found), digits) + 0.0  # avoids a negative zero
    return f"{middle:.{digits}f}" + (f" ± {stdev(found):.{digits}f}" if len(found) > 1 else "")


def peak_bytes() -> int:
    """Return the peak memory of this process, without that of its parent process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith("VmHWM")))


def machine() -> dict[str, object]:
    """Describe the machine and the versions of the libraries."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def record(name: str, result: dict[str, object]) -> None:
    """Write `results/NAME.json`: the command line, the machine and the result."""
    RESULTS.mkdir(exist_ok=True)
    given = [argument for before, argument in pairwise(sys.argv) if "--folder" not in (before, argument)]
    command = " ".join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *given])
    document = {"command": command, "machine": machine(), **result}
    (RESULTS / f"{name}.json").write_text(json.dumps(document, indent=1) + "\n")


def load(name: str) -> dict[str, Any]:
    """Return the record of a benchmark."""
    found: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text())
    return found


def parents_parser(
    description: str | None, seeds: Sequence[int] = (1, 2, 3), epochs: int | None = None
) -> argparse.ArgumentParser:
    """Return a parser of what all parents have: seeds, threads and, if they have a default, epochs."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(seeds))
    parser.add_argument("--threads", type=int, default=1)
    if epochs is not None:
        parser.add_argument("--epochs", type=int, default=epochs)
    return parser


def train_seeds(parser: argparse.ArgumentParser, train: Callable[[int, argparse.Namespace], None]) -> None:
    """Train a parent with each seed that was given."""
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    for seed in args.seeds:
        train(seed, args)


def save_parent(target: Path, model: PreTrainedModel, processor: Any, facts: dict[str, Any]) -> None:
    """Save a model with its processor, and `training.json`: the facts of its training, and the machine."""
    model.save_pretrained(target)
    processor.save_pretrained(target)
    (target / "training.json").write_text(json.dumps(facts | {"machine": machine()}, indent=1) + "\n")


def resumed(
    name: str,
    keys: Iterable[str],
    measure: Callable[[str], Any],
    facts: Callable[[Any], dict[str, object]] = lambda _: {},
) -> dict[str, Any]:
    """Return the `pairs` of `results/NAME.json`. Missing ones are measured and recorded at once, with their `facts`."""
    stored = RESULTS / f"{name}.json"
    pairs: dict[str, Any] = json.loads(stored.read_text())["pairs"] if stored.exists() else {}
    for key in keys:
        if key not in pairs:
            pairs[key] = measure(key)
            record(name, {**facts(pairs[key]), "pairs": pairs})
    return pairs


def merged(
    networks: Sequence[Network], alignments: Sequence[Alignment], context: AlignContext, method: str, **options: Any
) -> tuple[PreTrainedModel, dict[str, Any]]:
    """Merge aligned models with equal weights by one method, and return the model and what it records.

    Args:
        options: fields of `MergeRequest`.
    """
    weights = [1 / len(networks)] * len(networks)
    request = MergeRequest(
        anchor=networks[0],
        parents=aligned_weights(alignments),
        weights=weights,
        batches=context.batches,
        **options,
    )
    model = MERGE_FUNCTIONS[method](request)
    assert isinstance(model, PreTrainedModel)
    return model, request.record
