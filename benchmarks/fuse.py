"""Measure the cost of whole fusions by size: processor seconds by stage, and peak memory.

python benchmarks/fuse.py --widths 128 256 512 1024 --layers 2 4 16
python benchmarks/fuse.py --models A B --samples 1000 --threads 2 --limit 0 --name fuse-paper

The models are pairs of random ViTs with 32 x 32 pixels in 65 tokens, and the samples are CIFAR-10 images. Every width
runs with the middle number of layers, and every number of layers with the second width. Widths in `--wide` run by
weights alone, with two layers. `--models` measures two given image classifiers instead. Every row is measured in its
own process, with one thread unless `--threads` says otherwise, forked from a process that has imported everything.
Seconds are processor seconds, because other jobs may use the machine; `wall` is recorded too. The seconds of a stage
are those that cProfile reports for the functions below.

The floor loads both models, runs both over the samples (unless the method uses weights alone) and writes one. `floor,
fitted` runs a third model too, since fitting needs the fused model's activations. `blank` does nothing. A row is
skipped if a smaller size predicts more than `--limit` seconds (cubic in the width), or if `plan` predicts more than
`--room` bytes. A row that exceeds `--limit` is stopped. `--add` keeps the recorded rows and measures only the others.
"""

import argparse
import cProfile
import json
import multiprocessing
import pstats
import signal
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from common import DATA, RESULTS, peak_bytes, record
from fuse_plot import exponents, show
from transformers import AutoConfig, ViTConfig, ViTForImageClassification, ViTImageProcessorPil

from transfuse import fuse
from transfuse.checkpoint.reading.load import load_empty, load_model
from transfuse.config.options import Options
from transfuse.data.files.splits import CALIBRATION
from transfuse.data.load import load_samples
from transfuse.data.processors import model_preparer
from transfuse.fusion.planning.plan import Estimate

METHODS: dict[str, dict[str, Any]] = {
    "average": {"align": "none"},
    "flow, weights": {"align": "flow"},
    "flow": {"align": "flow"},
    "exact, weights": {"align": "exact", "match_on": "weights", "merge": "mean"},
    "exact": {"align": "exact", "match_on": "activations", "merge": "mean"},
    "exact, least squares": {"align": "exact", "merge": "least-squares"},
}
WITH_SAMPLES = ("floor", "floor, fitted", "flow", "exact", "exact, least squares")
STAGES = {  # the functions whose time belongs to a stage; aligning excludes the statistics ("looking")
    "reading": [("inputs", "open_models"), ("calibration", "calibrate")],
    "looking": [("hooks", "collect_moments")],
    "aligning": [("align", "align")],
    "merging": [("fuse", "merge")],
    "writing": [("result", "save")],
}


def parents(folder: Path, width: int, layers: int, pixels: int) -> list[Path]:
    """Save two untrained ViTs: with 65 tokens for 32 pixels, with 197 for 224 pixels, as in ViT-B/16."""
    found = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        config = ViTConfig(
            hidden_size=width, num_hidden_layers=layers, num_attention_heads=max(width // 64, 2),
            intermediate_size=4 * width, image_size=pixels, patch_size=16 if pixels > 32 else 4, num_labels=10,
        )  # fmt: skip
        found.append(folder / f"{width}-{layers}-{seed}")
        ViTForImageClassification(config).save_pretrained(found[-1])
        ViTImageProcessorPil(size={"height": pixels, "width": pixels}).save_pretrained(found[-1])
    return found


def floor(models: list[Path], data: str | None, samples: int, output: Path, fitted: bool, at_once: int = 25) -> None:
    """Read both models, run each once, and one more if a fused model is fitted, and write one."""
    loaded = [load_model(model).float() for model in models]
    run = [*loaded, loaded[0]] if fitted else loaded
    with torch.no_grad():
        if data is not None:
            drawn = load_samples(data, CALIBRATION).take(samples, 0)
            for batch in drawn.batches(model_preparer(models[0], loaded[0]), at_once):
                for model in run:
                    model(**{name: values for name, values in batch.items() if name != "labels"})
    loaded[0].save_pretrained(output)


def measured(work: Callable[[Path], object], staged: bool) -> dict[str, Any]:
    """Measure the seconds and the peak memory of what writes a model, given its folder.

    Args:
        staged: whether the seconds of each stage of a fusion are measured, too.
    """
    profile = cProfile.Profile(time.process_time)
    with tempfile.TemporaryDirectory() as folder:
        start, wall = time.process_time(), time.perf_counter()
        with profile if staged else nullcontext():
            work(Path(folder) / "fused")
        seconds = time.process_time() - start
        found = {"seconds": seconds, "wall": time.perf_counter() - wall, "peak": peak_bytes()}
    return found | ({"stages": stages(profile, seconds)} if staged else {})


def one(method: str, models: list[Path], samples: int) -> dict[str, Any]:
    """Measure the seconds and peak memory of one method, in its own process."""
    data = str(DATA / "cifar10" / "train.parquet") if method in WITH_SAMPLES else None
    sizes = {"samples": samples} if method in WITH_SAMPLES else {}

    def work(output: Path) -> None:
        if method.startswith("floor"):
            floor(models, data, samples, output, "fitted" in method)
        elif method in METHODS:
            fuse(models, data, **METHODS[method], **sizes).save(output)

    return measured(work, staged=method in METHODS)


def stages(profile: cProfile.Profile, whole: float) -> dict[str, float]:
    """Return the seconds of each stage. `rest` is hashes, diagnostics and the check of exact maps."""
    taken = {(Path(file).stem, name): times[3] for (file, _, name), times in pstats.Stats(profile).stats.items()}  # type: ignore[attr-defined]
    found = {stage: sum(taken.get(each, 0.0) for each in functions) for stage, functions in STAGES.items()}
    found["aligning"] -= found["looking"]
    return found | {"rest": whole - sum(found.values())}


def apart(work: Callable[..., Any], *given: Any, limit: float = 0, threads: int = 1) -> Any:
    """Run a function in its own process. Raises `TimeoutError` after `limit` processor seconds."""
    with multiprocessing.get_context("fork").Pool(1, _prepare, (limit, threads)) as pool:
        return pool.apply(work, given)


def _prepare(limit: float, threads: int) -> None:
    torch.set_num_threads(threads)  # a process with several threads cannot be forked, so its child starts them

    def end(*_: Any) -> None:
        raise TimeoutError

    if limit:
        signal.signal(signal.SIGVTALRM, end)
        signal.setitimer(signal.ITIMER_VIRTUAL, limit)


def too_much(row: dict[str, Any], rows: list[dict[str, Any]], models: list[Path], args: argparse.Namespace) -> str:
    """Return why a row is skipped, or an empty string if it is not."""
    for each in rows:
        if each["way"] == row["way"] and each["width"] <= row["width"] and "seconds" in each:
            predicted = each["seconds"] * (row["width"] / each["width"]) ** 3 * row["layers"] / each["layers"]
            if args.limit and predicted > args.limit and each["width"] * 2 >= row["width"]:
                return f"about {predicted:.0f} s, by width {each['width']}"
    if any(each["way"] == row["way"] and "skipped" in each and each["width"] < row["width"] for each in rows):
        return "a smaller one was skipped"
    chosen = METHODS.get(row["way"], {})
    options = Options(align=chosen.get("align", "none"))
    predicted = Estimate([load_empty(model) for model in models], options).loaded_bytes
    return f"about {predicted / 1e9:.1f} GB" if predicted > args.room else ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--widths", type=int, nargs="*", default=[128, 256, 512, 1024])
    parser.add_argument("--layers", type=int, nargs="*", default=[2, 4, 16])
    parser.add_argument("--wide", type=int, nargs="*", default=[2048, 4096])
    parser.add_argument("--samples", type=int, default=100)
    parser.add_argument("--pixels", type=int, choices=[32, 224], default=32)
    parser.add_argument("--ways", nargs="+", default=["blank", "floor, weights", "floor", "floor, fitted", *METHODS])
    parser.add_argument("--models", type=Path, nargs=2, help="measure these checkpoints")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--limit", type=float, default=150)
    parser.add_argument("--room", type=float, default=10e9)
    parser.add_argument("--name", default="fuse")
    parser.add_argument("--add", action="store_true")
    parser.add_argument("--folder", type=Path, help="folder for the checkpoints, which are deleted afterwards")
    args = parser.parse_args()
    torch.set_num_threads(1)
    middle, second = args.layers[len(args.layers) // 2], args.widths[min(1, len(args.widths) - 1)]
    sizes = [(width, middle) for width in args.widths] + [(second, layers) for layers in args.layers]
    rows: list[dict[str, Any]] = json.loads((RESULTS / f"{args.name}.json").read_text())["rows"] if args.add else []
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        one("exact", apart(parents, Path(folder), 64, 1, 32), 2)  # imports the modules that are imported lazily
    sizes += [(width, 2) for width in args.wide]
    if args.models:
        config = AutoConfig.from_pretrained(args.models[0])
        sizes = [(config.hidden_size, config.num_hidden_layers)]
    for width, layers in dict.fromkeys(sizes):
        with tempfile.TemporaryDirectory(dir=args.folder) as folder:
            models = args.models or apart(parents, Path(folder), width, layers, args.pixels)
            for method in args.ways:
                measured = any(each["way"] == method for each in rows)
                if (method in WITH_SAMPLES and width in args.wide) or (method == "blank" and measured):
                    continue
                row: dict[str, Any] = {"width": width, "layers": layers, "way": method}
                if any(row.items() <= each.items() for each in rows):
                    continue
                if not (why := too_much(row, rows, models, args)):
                    try:
                        row |= apart(one, method, models, args.samples, limit=args.limit, threads=args.threads)
                    except TimeoutError:
                        why = f"ended after {args.limit:.0f} s"
                rows.append(row | ({"skipped": why} if why else {}))
                print(rows[-1], flush=True)
                facts = {"seconds": "of processors; wall beside", "samples": args.samples, "pixels": args.pixels}
                record(args.name, facts | {"growth": exponents(rows), "rows": rows})
    show(args.name, rows)


if __name__ == "__main__":
    main()
