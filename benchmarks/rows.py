"""Make each table of `tables.py` from its file under `results/`."""

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from math import exp
from statistics import mean
from typing import Any

import finetune_table
import fuse_plot
import solvers as solver_benchmark
from ablation import MATCH_ON
from common import RESULTS, load, spread

CURRENT_TERMS = {
    "trust even": "uniform weighting", "trust confidence": "weighted by confidence",
    "trust labels": "weighted by labels", "centred": "centered", "centre": "center", "normalise": "normalize",
    "regularisation": "regularization",
}  # fmt: skip


def markdown(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    return "\n".join(lines + [f"| {' | '.join(row)} |" for row in rows]).replace("|  |", "| |").replace("|  |", "| |")


def percent(values: Iterable[float]) -> str:
    """Format the mean and standard deviation of fractions in percent."""
    return spread(values, 1, 100)


def methods(dataset: str) -> str:
    """Return the table of all methods for two models, over pairs."""
    pairs = list(load(f"methods-{dataset}")["pairs"].values())
    rows = []
    for found in zip(*pairs, strict=True):
        metrics = [each["metrics"] for each in found]
        cells = [percent(each["accuracy"] for each in metrics), spread(each["loss"] for each in metrics)]
        shown = found[0]["barrier"] is not None
        cells.append(spread(each["barrier"] for each in found) if shown else "")
        cells.append(f"{mean(each['seconds'] for each in found):.1f}" if found[0]["seconds"] is not None else "")
        rows.append([found[0]["name"], *cells])
    return markdown(["", "accuracy (%)", "loss", "barrier", "seconds"], rows)


def perplexities() -> str:
    """Return the table of all methods for two language models, with one pair each."""
    kinds = {"Llama": "llama", "GPT-2": "gpt2"}
    found = [load(f"methods-warandpeace-{kind}")["pairs"]["1,2"] for kind in kinds.values()]
    rows = []
    for both in zip(*found, strict=True):
        cells = [both[0]["name"]]
        for each in both:
            barrier = each["barrier"]
            cells += [f"{exp(each['metrics']['loss']):.1f}", "" if barrier is None else f"{barrier:.2f}"]
        rows.append(cells)
    return markdown(["", *(head for kind in kinds for head in (f"{kind}: perplexity", "barrier"))], rows)


def many() -> str:
    """Return the table of more than two models."""
    sizes: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for seeds, found in load("many-cifar10")["groups"].items():
        sizes[len(seeds.split(","))].append(found)
    rows = []
    for name in next(iter(sizes.values()))[0]:
        each = [[group[name]["metrics"] for group in groups] for groups in sizes.values()]
        rows.append(
            [name, *(f"{percent(m['accuracy'] for m in found)}, {spread(m['loss'] for m in found)}" for found in each)]
        )
    heads = [f"{size} parents ({len(groups)} group{'s' * (len(groups) > 1)})" for size, groups in sizes.items()]
    return markdown(["accuracy (%), loss", *heads], rows)


def trust(name: str, perplexity: bool = False) -> str:
    """Return the table of parents that know different data, with perplexities or accuracies."""
    pairs = list(load(name)["pairs"].values())
    parts = list(next(iter(pairs[0].values())))
    rows = []
    for row in pairs[0]:
        accuracies, losses = (
            [[pair[row][part][what] for pair in pairs] for part in parts] for what in ("accuracy", "loss")
        )
        for each in (accuracies, losses):
            each.append([mean(pair) for pair in zip(*each, strict=True)])
        shown = [spread(map(exp, each), 1) for each in losses] if perplexity else [percent(each) for each in accuracies]
        rows.append([row, *shown, spread(losses[-1])])
    what = "perplexity" if perplexity else "accuracy (%)"
    table = markdown([f"test {what}, {len(pairs)} pairs", *parts, "mean of both", "loss"], rows)
    return current_terms(table)


def current_terms(table: str) -> str:
    """Replace old names of options in a record's rows by the current ones."""
    for old, new in CURRENT_TERMS.items():
        table = table.replace(old, new)
    return table


def likeness() -> str:
    """Return the table of mean correlations of units with the same number, block by block."""
    names = {"stream": "stream", "heads": "channels of the values", "hidden": "hidden units"}
    found = load("likeness-cifar10")["diagonals"]
    blocks = range(1, len(next(iter(found["stream"].values()))) + 1)
    rows = [
        [f"{names[place]}, {method}", *(f"{round(mean, 2) + 0.0:.2f}" for mean in means)]
        for place, ways in found.items() for method, means in ways.items()
    ]  # fmt: skip
    return markdown(["", *(f"block {block}" for block in blocks)], rows)


def fitting() -> str:
    """Return the table of the contribution of each part of the fit."""
    pairs = list(load("fitting-fashion-mnist")["pairs"].values())
    rows = [
        [
            name,
            percent(pair[name]["metrics"]["accuracy"] for pair in pairs),
            spread(pair[name]["excess"] for pair in pairs),
        ]
        for name in pairs[0]
    ]
    return markdown(["variant", "accuracy (%)", "excess loss"], rows)


def ablation(part: str) -> str:
    """Return the table of the contribution of each group, or of each setting of `--match-on`."""
    found = load("ablation-cifar10")["rows"]
    names = [name for name in found if (name in MATCH_ON) == (part == "evidence")]
    return markdown(
        ["variant", "accuracy (%)", "loss"],
        [[name.strip(), percent(found[name]["accuracy"]), spread(found[name]["loss"])] for name in names],
    )


def flow() -> str:
    """Return the table of the paper's options, one at a time."""
    rows = []
    for name, found in load("flow-cifar10")["rows"].items():
        support = f"{sum(each['support'] for each in found) / len(found):.2f}" if "support" in found[0] else ""
        rows.append(
            [name, percent(each["accuracy"] for each in found), spread(each["loss"] for each in found), support]
        )
    return current_terms(markdown(["", "accuracy (%)", "loss", "effective support"], rows))


def finetuned(name: str, size: int) -> str:
    """Return the table of fine-tuned fusions of `size` parents, with a parent that is trained further."""
    return finetune_table.table(finetune_table.by_size(name)[size], "test")


def speed(name: str) -> str:
    """Return the table of time and memory by size, with the share of each stage."""
    return markdown(fuse_plot.HEADS, [line for line in fuse_plot.lines(load(name)["rows"]) if line[2] != "blank"])


def growth() -> str:
    """Return the table of the growth of time and memory."""
    found = {(each["way"], each["by"], each["of"]): each for each in load("fuse")["growth"]}
    heads = [(by, of) for by in ("width", "layers") for of in ("seconds", "peak")]
    rows = [
        [method] + [
            f"{found[method, by, of]['exponent']:.1f} (x {found[method, by, of]['off_by']:.2f})"
            if (method, by, of) in found else "" for by, of in heads
        ]
        for method in dict.fromkeys(method for method, _, _ in found)
    ]  # fmt: skip
    return markdown(["", "seconds, by width", "memory, by width", "seconds, by layers", "memory, by layers"], rows)


def device() -> str:
    """Return the table that compares a GPU with the CPU of its machine."""
    document = load("device")
    found = {tuple(key.split("; ")): row for key, row in document["pairs"].items()}
    rows = [
        [method, f"{row['seconds']:.1f}", f"{row['peak'] / 1e9:.1f} GB", f"{found[shape, method, 'cpu']['seconds']:.1f}"
         if (shape, method, "cpu") in found else "not finished"]
        for (shape, method, where), row in found.items() if where == "cuda"
    ]  # fmt: skip
    gpu = document["machine"]["gpu"]
    return markdown(["", f"seconds on an {gpu}", "peak GPU memory", "seconds on 16 cores of the same machine"], rows)


def memory() -> str:
    """Return the table of memory for long texts, with and without a limit."""
    ways = load("memory")["ways"].items()
    rows = (
        [f"`{method}`", f"{row['seconds']:.0f}", f"{row['peak'] / 1e9:.2f} GB", "refused" if row["status"] else "done"]
        for method, row in ways
    )
    return markdown(["command", "seconds", "peak memory", "outcome"], rows)


def solvers(name: str) -> str:
    """Return the table of our solvers, and the relative times of others."""
    return markdown(solver_benchmark.HEADS, solver_benchmark.compared(load(name)["rows"]))


def large() -> str:
    """Return the table of models larger than memory."""
    names = {"copied": "read both and copy one (`cp`)", "none": "`--align none`", "exact": "`--align exact`"}
    rows = []
    for name, row in load("large-3b")["rows"].items():
        memory, written = (f"{row[key]:.1f} GB" if key in row else "" for key in ("peak_gb", "written_gb"))
        rows.append([names[name], f"{row['seconds']:,.0f}", memory, written])
    return markdown(["", "seconds", "peak memory, with mapped pages", "written, with maps"], rows)


def large_data() -> str:
    """Return the table of fusions with samples whose parents are loaded, or mapped from files."""
    rows = []
    for row in load("large-data")["rows"]:
        memory = [f"{row[key]:.2f} GB" for key in ("anonymous_gb", "peak_gb", "written_gb")]
        parents = "mapped" if row["streamed"] else "loaded"
        rows.append([f"{row['models']} models, {parents}", f"{row['processor_seconds']:,.0f}", *memory])
    return markdown(
        ["", "processor seconds", "peak memory without mapped pages", "peak memory with mapped pages", "written"], rows
    )


def plan_data() -> str:
    """Return the table of predicted and measured memory of fusions with samples."""
    rows = [
        [
            row["models"],
            row["way"],
            str(row["samples"]),
            f"{row['peak_bytes'] / 1e9:.2f} GB",
            f"{row['predicted_bytes'] / row['peak_bytes']:.2f}",
            row["stage"],
        ]
        for row in load("plan-data")["rows"]
    ]
    return markdown(["models", "method", "samples", "measured peak", "predicted / measured", "predicted while"], rows)


def measurements() -> str:
    """Return the table of all result files and the commands that made them."""
    rows = []
    for file in sorted(RESULTS.glob("*.json")):
        found = json.loads(file.read_text())
        machine = f"{found['machine']['cpu']}, threads: {found['machine']['threads']}"
        rows.append([f"[`{file.name}`](../benchmarks/results/{file.name})", f"`{found['command']}`", machine])
    return markdown(["file", "command", "machine"], rows)
