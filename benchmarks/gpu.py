"""Measure fusions of two language models of base size on a GPU: time by stage, memory, and loss on both parents' texts.

python benchmarks/gpu.py --prepare corpora
python benchmarks/gpu.py --folder corpora --device cuda --suite --demo --nccl
python benchmarks/gpu.py --folder corpora --device cuda --kind bert
python benchmarks/gpu.py --folder toy --out toy --device cpu --toy

The first parent reads nine parts of Python and one part of C, and the second parent reads the reverse. They share one
tokenizer. The corpora come from the files of the machine (`gpu_corpora.py`). `--prepare` builds them ahead, for a
machine that holds few files. `--folder` also keeps the parents, and a later run with the same arguments reuses them.

Every row is written as soon as it is measured, and a row that fails holds its error. Seconds are wall seconds of a
whole fusion that is not saved. The peak is that of the GPU; on a CPU, it is that of the process since its start. The
control is the anchor, trained by the same steps towards the same targets as the learned weights. The floor runs both
parents, and the anchor once more in place of a fused model, over the calibration samples.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import asdict
from functools import cached_property, partial
from pathlib import Path
from typing import Any, TypeVar

import common
import torch
from fuse import METHODS
from gpu_corpora import RATES, SOURCES, prepare, tokenizer, train_parent
from transformers import PreTrainedModel

from transfuse import Fusion, Matched, evaluate, fuse, load_samples, match, merge, with_tensors
from transfuse.alignment.interface import aligned_weights
from transfuse.base.batch import Batch
from transfuse.base.libraries import quiet
from transfuse.checkpoint.reading.load import load_model
from transfuse.config.options import Options
from transfuse.data.tasks import task
from transfuse.distillation.validation import split_with_answers
from transfuse.evaluation.evaluate import ensemble
from transfuse.evaluation.samples import labeled_batches
from transfuse.fusion import calibration
from transfuse.merging.training.learned_weights import WeightDistillation
from transfuse.network.outputs import predict

Row = dict[str, Any]
T = TypeVar("T")
TOY = {
    "width": 64, "blocks": 2, "heads": 4, "kv_heads": 2, "length": 64, "megabytes": 1.0, "vocabulary": 512,
    "parent_steps": 30, "parent_batch": 8, "samples": 20, "steps": 10, "limit": 20, "threads": 1,
}  # fmt: skip
FITTED = "exact, least squares"
COMMAND_SECONDS = 540  # after which a command is ended


class Run:
    """Measures one kind of model, row by row, and writes all rows after each."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.device, self.words = args, torch.device(args.device), tokenizer(args.folder)
        self.corpora = json.loads((args.folder / "corpora.json").read_text())
        self.parents = [args.folder / f"{args.kind}-{corpus}" for corpus in SOURCES]
        self.texts = args.folder / "calibration.parquet"
        self.drawn: dict[str, Any] = {"samples": args.samples, "device": args.device}
        self.rows: dict[str, Row] = {}
        if any(getattr(args, name, value) != value for name, value in self.corpora.items()):
            raise SystemExit(f"{args.folder} holds corpora of other arguments; use them, or --prepare another folder")

    def measure(self, name: str, work: Callable[[], Row]) -> None:
        """Add the row that `work` returns, or its error."""
        try:
            row = work()
        except Exception as error:
            row = {"error": f"{type(error).__name__}: {error}", "traceback": traceback.format_exc()}
        self.rows[name] = row
        given = {name: value for name, value in vars(self.args).items() if not isinstance(value, Path)}
        common.record(f"gpu-{self.args.kind}", {"arguments": given, "corpora": self.corpora, "rows": self.rows})
        shown = {key: value for key, value in row.items() if key not in ("traceback", "tail", "history")}
        rounded = json.loads(json.dumps(shown), parse_float=lambda digits: round(float(digits), 3))
        print(f"{name}:", json.dumps(rounded), flush=True)

    def timed(self, work: Callable[[], T]) -> tuple[T, Row]:
        """Return a result, and the seconds and the peak memory that it took."""
        cuda = self.device.type == "cuda"
        if cuda:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.device)
        start = time.perf_counter()
        result = work()
        if cuda:
            torch.cuda.synchronize(self.device)
        seconds = time.perf_counter() - start
        peak = torch.cuda.max_memory_allocated(self.device) if cuda else common.peak_bytes()
        return result, {"seconds": seconds, "peak_bytes": peak}

    def training(self, number: int) -> Row:
        """Train the parent of one corpus, unless it exists."""
        row, used = self.timed(partial(train_parent, self.parents[number], number, self.args))
        return row if row.get("reused") else used | row

    def losses(self, measure: Callable[[Path], float]) -> Row:
        """Return the loss on the test passages of each corpus, in nats."""
        return {"loss": {corpus: measure(self.args.folder / f"{corpus}-test.parquet") for corpus in SOURCES}}

    def model_losses(self, model: Path | PreTrainedModel) -> Row:
        """Return the losses of one model."""
        options: dict[str, Any] = {"processor": self.words, "device": self.args.device}

        def measure(texts: Path) -> float:
            (found,) = evaluate(model, texts, self.args.limit, **options).models.values()
            return found.metrics.loss

        return self.losses(measure)

    def ensemble(self) -> Row:
        """Return the losses of the parents' mean probabilities."""
        models = [load_model(parent).to(self.device) for parent in self.parents]
        labeled = task(type(models[0]).__name__).labeled

        def measure(texts: Path) -> float:
            samples = labeled(load_samples(texts)).take(self.args.limit, Options().seed)
            return ensemble(models, labeled_batches(samples, models[0], self.parents[0], Options())).loss

        return self.losses(measure)

    def fusion(self, work: Callable[[], Fusion]) -> Row:
        """Return what a fusion takes by stage, and the losses of the fused model."""
        fused, row = self.timed(work)
        row |= {"stages": fused.record["stages"], "history": fused.record.get("learned_weights")}
        return row | self.model_losses(fused.model)

    @cached_property
    def matched(self) -> Matched:
        """Return the parents in one basis, for learned weights and their control."""
        return match(self.parents, self.texts, merge="learned", steps=self.args.steps, **self.drawn)

    def control(self) -> Row:
        """Train the anchor by the steps, and towards the targets, of learned weights."""
        matched, options = self.matched, self.matched.options
        tensors = aligned_weights(matched.alignments)
        parents = [with_tensors(matched.networks[0].model, each) for each in tensors]
        split = split_with_answers(parents[0], matched.context.batches, "weights")
        anchor = deepcopy(parents[0])
        given = (anchor, parents, matched.weights, split, options.learning())
        history, row = self.timed(lambda: WeightDistillation(*given, seed=options.seed).run("weights"))
        return row | {"history": asdict(history)} | self.model_losses(anchor)

    def floor(self) -> Row:
        """Time the forward passes of three models over the samples, and divide the time of fitting by it."""
        models = [load_model(parent).to(self.device) for parent in (*self.parents, self.parents[0])]
        samples = load_samples(self.texts).take(self.args.samples, Options().seed)
        batches = list(calibration.prepare(samples, models[0], self.parents[0], Options(), self.words))

        def forward(batches: Sequence[Batch]) -> None:
            for model in models:
                for batch in batches:
                    predict(model, batch)

        forward(batches[:1])  # selects kernels
        _, row = self.timed(lambda: forward(batches))
        default = self.rows[FITTED]
        taken = default["stages"] | {"total": default["seconds"]} if "stages" in default else {}
        return row | {"default_by_floor": {stage: seconds / row["seconds"] for stage, seconds in taken.items()}}

    def command(self, arguments: Sequence[str]) -> Row:
        """Run a module of Python in the project's root, and return its status and its last lines."""
        start, run, root = time.perf_counter(), [sys.executable, "-m", *arguments], Path(__file__).parents[1]
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        done = subprocess.run(run, cwd=root, timeout=COMMAND_SECONDS, **pipes)
        lines, seconds = done.stdout.strip().splitlines() or [""], time.perf_counter() - start
        return {"rc": done.returncode, "seconds": seconds, "closing": lines[-1], "tail": lines[-20:]}

    def models(self) -> None:
        """Measure the parents, their ensemble, every method and the floor."""
        for number, corpus in enumerate(SOURCES):
            self.measure(f"training, {corpus}", partial(self.training, number))
            self.measure(f"parent, {corpus}", partial(self.model_losses, self.parents[number]))
        self.measure("ensemble", self.ensemble)
        for method in ("average", "exact, weights"):
            work = partial(fuse, self.parents, device=self.args.device, **METHODS[method])
            self.measure(method, partial(self.fusion, work))
        self.measure(
            FITTED, partial(self.fusion, partial(fuse, self.parents, self.texts, merge="least-squares", **self.drawn))
        )
        self.measure("floor", self.floor)
        self.measure("learned", lambda: self.fusion(lambda: merge(self.matched)))
        self.measure("anchor, learned (control)", self.control)

    def commands(self, folder: Path) -> None:
        """Run the commands that were asked for, with a folder for what they write."""
        given = [*map(str, self.parents), "--data", str(self.texts), "--samples", str(self.args.samples)]
        torchrun = ["torch.distributed.run", "--nproc-per-node", "1", "-m", "transfuse", "fuse"]
        commands = {
            "suite": ["pytest", "-m", "not slow and not browser"],
            "demo": ["transfuse", "demo", "--output", str(folder / "demo")],
            "nccl": [*torchrun, *given, "--output", str(folder / "fused")],
        }
        for name, arguments in commands.items():
            if getattr(self.args, name):
                self.measure(name, partial(self.command, arguments))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prepare", type=Path, metavar="FOLDER", help="build the corpora there, and end")
    parser.add_argument("--folder", type=Path, default=common.PARENTS / "gpu", help="folder of corpora and parents")
    parser.add_argument("--out", type=Path, help="folder for the JSON; default: benchmarks/results")
    parser.add_argument("--toy", action="store_true", help="tiny sizes, to test this file; needs --out")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--kind", choices=RATES, default="llama")
    numbers = {
        "width": 768, "blocks": 12, "heads": 12, "kv-heads": 12, "length": 256, "vocabulary": 16384, "seed": 0,
        "parent-steps": 1800, "parent-batch": 64, "samples": 2000, "steps": 500, "limit": 2000,
        "threads": torch.get_num_threads(), "megabytes": 55.0,
    }  # fmt: skip
    for name, value in numbers.items():
        parser.add_argument(f"--{name}", type=type(value), default=value)
    parser.add_argument("--suite", action="store_true", help="run the tests, too")
    parser.add_argument("--demo", action="store_true", help="run the demo, too")
    parser.add_argument("--nccl", action="store_true", help="fuse under torchrun with one process, too")
    if parser.parse_args().toy:
        parser.set_defaults(**TOY)
    args = parser.parse_args()
    if args.toy and not (args.out or args.prepare):
        parser.error("--toy needs --out, so that its numbers do not land in benchmarks/results")
    torch.set_num_threads(args.threads)
    args.folder = (args.prepare or args.folder).absolute()
    if args.prepare or not (args.folder / "corpora.json").exists():
        facts = prepare(args.folder, args.megabytes, args.length, args.vocabulary, args.seed)
        print("corpora:", json.dumps(facts), flush=True)
    if args.prepare:
        return
    common.RESULTS = args.out or common.RESULTS
    run = Run(args)
    with quiet(), tempfile.TemporaryDirectory() as folder:
        run.models()
        run.commands(Path(folder))
    failed = [name for name, row in run.rows.items() if "error" in row or row.get("rc")]
    if failed:
        raise SystemExit(f"failed: {'; '.join(failed)}")


if __name__ == "__main__":
    main()
