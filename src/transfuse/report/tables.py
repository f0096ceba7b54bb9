"""Summaries of results as lines for the terminal, and the columns of its tables."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path as File
from typing import Any

from rich.table import Column

from transfuse.base.counted import counted
from transfuse.base.printable import printable
from transfuse.base.sizes import format_bytes
from transfuse.checkpoint.cards.adapter import held_sentence
from transfuse.checkpoint.record.outcome import growth_is_unused, learning_line, smaller_sizes, starts_from_fit
from transfuse.checkpoint.writing.owned import ADAPTER
from transfuse.config.data_options import GENERATED

MAX_FILES = 8  # names in a line of the terminal


def fusion_summary(output: File | str, record: Mapping[str, Any]) -> str:
    """Return a line on the fused model: where it is, how it was made, and how long that took."""
    samples = record["calibration_samples"]
    matching = "" if record["options"]["align"] == "none" else f", matched on {record['match_on']}"
    matching += ", as they share a base" if "shared_base" in record else ""
    matching += f", merge {record['merge']}" if "base" in record or record.get("merge") == "slerp" else ""
    growing = f", grown to {growth_line(record['growth'])}" if "growth" in record else ""
    growing += ", where the units that were added do nothing" if growth_is_unused(record) else ""
    fitted = "least_squares" in record and starts_from_fit(record.get("learned_weights", {}))
    merging = ", layers fitted by least squares" if fitted else ""
    used = f", {counted(samples, 'sample')}{of_split(record.get('calibration_split'))}" if samples else ""
    if history := record.get("learned_weights"):
        merging = f"{merging}, {learning_line(history)}"
    return (
        printable(
            f"Fused {counted(len(record['models']), 'model')} into {output}"
            f" (align {record['options']['align']}{matching}{growing}{merging}{used}, {record['seconds']:.1f} s)"
        )
        + left_out_line(record)
        + adapter_line(output, record)
        + _quality(record)
    )


def adapter_line(output: File | str, record: Mapping[str, Any]) -> str:
    """Return a line on what the adapter holds and on how to measure it; empty if there is none."""
    if "adapter" not in record:
        return ""
    folder = File(output) / ADAPTER
    data = record["data"] if record["data"] not in (None, GENERATED) else "DATA"
    command = shlex.join(["transfuse", "eval", str(output), str(folder), "--data", data])
    held = held_sentence(record["adapter"])
    return "\n" + printable(f"Adapter in {folder}, for {record['adapter']['base']}. {held} Measure it with: {command}")


def of_split(split: str | None) -> str:
    """Return words for the split that was read; empty if the data have no splits."""
    return f" of split {split}" if split else ""


def _quality(record: Mapping[str, Any]) -> str:
    """Return a line on how good the model is, or on how to measure it; empty if the record has none."""
    return "\n" + printable(record["quality"]["verdict"]) if "quality" in record else ""


def training_summary(output: File | str, record: Mapping[str, Any]) -> str:
    """Return lines on the fine-tuned model: where it is, how it was trained, how long that took, and how good it is."""
    teachers = f", {counted(len(record['teachers']), 'teacher')}" if record["teachers"] else ""
    samples = counted(record["samples"], "sample") + of_split(record.get("split"))
    first, last = (record["losses"][index][1] for index in (0, -1))
    summary = printable(
        f"Fine-tuned {record['finetuned']['path']} into {output} ({counted(record['steps'], 'step')} on"
        f" {samples}{teachers}, training loss {first:.3f} to {last:.3f}, {record['seconds']:.1f} s)"
    )
    return summary + left_out_line(record) + _quality(record)


def shrinking_summary(output: File | str, record: Mapping[str, Any]) -> str:
    """Return lines on the small model: where it is, its sizes, how it was made, and how good it is."""
    parameters = record["parameters"]
    share = parameters["small"] / parameters["large"]
    made = ["layers fitted by least squares"]
    if history := record.get("learned_weights"):
        steps = counted(history["best"], "step")
        gained = f"weights trained in {steps}" if history["best"] else "training gained nothing"
        unit = history.get("unit", "nats")
        made.append(f"{gained}, {min(history['excess']):.3f} {unit} above the large model on held-out samples")
    return (
        printable(
            f"Shrunk {record['shrunk']['path']} into {output} ({parameters['small']:,} of {parameters['large']:,}"
            f" parameters, {share:.0%}; {smaller_sizes(record)}; {', '.join(made)},"
            f" {counted(record['calibration_samples'], 'sample')}{of_split(record.get('calibration_split'))},"
            f" {record['seconds']:.1f} s)"
        )
        + left_out_line(record)
        + _quality(record)
    )


def plan_of_sizes(model: str, planned: Mapping[str, Any], max_memory: int | None = None) -> str:
    """Return lines on the sizes that a small model would have, or on those among which samples decide, and on memory.

    Args:
        planned: as by `cli.jobs.shrink.plan_job`.
        max_memory: the limit in bytes that shrinking was planned for; None: there is none.
    """
    lines = []
    for plan in planned["possible"]:
        parameters = plan["parameters"]
        share = parameters["small"] / parameters["large"]
        lines.append(
            f"{parameters['small']:,} of {parameters['large']:,} parameters ({share:.0%}): {smaller_sizes(plan)}"
        )
    if len(lines) == 1:
        lines = [f"{model} would have {lines[0]}"]
    else:
        lines.insert(0, f"{model} would have one of these, whichever changes the predictions least on some samples:")
    if planned["streams"]:
        lines.append("Its weights stay in its files while it is made smaller, so memory need not hold them.")
    else:
        fits = f" It fits in {format_bytes(max_memory)}." if max_memory else ""
        lines.append(f"Shrinking takes about {format_bytes(planned['needed_bytes'])}, besides the samples.{fits}")
    return "\n".join(map(printable, lines))


def growth_line(growth: Mapping[str, Any]) -> str:
    """Return the number of parameters of a result that grew, and the sizes that changed."""
    anchor, grown = (growth["parameters"][name] for name in ("anchor", "grown"))
    sizes = [
        f"{name} {before} to {growth['sizes']['grown'][name]}" for name, before in growth["sizes"]["anchor"].items()
    ]
    return f"{grown:,} parameters, {grown / anchor:.2f} times the anchor's ({', '.join(sizes)})"


def left_out_line(record: Mapping[str, Any]) -> str:
    """Return a second line on files that were not copied with a model; empty if there are none."""
    parts = []
    names = record.get("left_out", [])
    dropped_keys = {key: files for key in ("auto_map", "custom_pipelines") if (files := record.get(f"{key}_dropped"))}
    if names:
        one = record.get("finetuned") or record.get("shrunk") or record["models"][0]
        paths = [one["path"], *([record["carried"]["tuned"]] if "carried" in record else [])]
        more = f" and {record['left_out_count'] - MAX_FILES} more" if record["left_out_count"] > MAX_FILES else ""
        parts.append(f"Not copied from {' and '.join(filter(None, paths))}: {', '.join(names[:MAX_FILES])}{more}.")
    if dropped_keys:
        dropped = " and ".join(f"{key} from {', '.join(files)}" for key, files in dropped_keys.items())
        parts.append(
            f"Dropped {dropped}: the code {'they name' if len(dropped_keys) > 1 else 'it names'} is not copied."
        )
    return "\n" + printable(" ".join(parts)) if parts else ""


def model_column() -> Column:
    """Return the column of model names. Long paths are folded, not cut."""
    return Column("model", overflow="fold")


def number_column(name: str) -> Column:
    """Return a column of numbers."""
    return Column(name, justify="right", no_wrap=True)
