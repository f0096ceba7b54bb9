"""Train two ViTs that know different digits, fuse them by every method, print tables and write a report."""

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from datasets import Dataset
from rich.console import Console
from rich.table import Table
from transformers import PreTrainedModel

from transfuse.base.folders import make_folder
from transfuse.base.libraries import quiet
from transfuse.base.progress import Progress
from transfuse.checkpoint.record.command import fuse_call
from transfuse.checkpoint.writing.owned import DEMO_MARKER
from transfuse.cli.demo.digits import batches, digits, halves, parent, processor
from transfuse.cli.jobs.report import build_report
from transfuse.cli.jobs.report_files import update_card, write_report
from transfuse.cli.targets import check_demo
from transfuse.data.load import load_samples
from transfuse.evaluation.evaluate import evaluate
from transfuse.evaluation.samples import measured_samples
from transfuse.fusion.compare import METHODS, Row, compare
from transfuse.fusion.fuse import merge
from transfuse.fusion.match import match
from transfuse.report.evaluation_tables import comparison_table
from transfuse.report.tables import model_column, number_column

SEEDS = (1, 2)
DEFAULT = "default, trained"
MINUTES = 2.0  # that it is trained for, instead of five
DEMO_METHODS = [
    name for name, options in METHODS.items() if options["align"] != "learned"
]  # learned alignment takes minutes


def run_demo(folder: Path, progress: Progress, console: Console) -> None:
    """Write parents, data, the fused model and `report.html` to `folder`. Parents of an earlier run are reused.

    Raises:
        OutputError: `folder` was not made by the demo, or cannot be written.
    """
    check_demo(folder)
    make_folder(folder)
    (folder / DEMO_MARKER).touch()
    torch.manual_seed(0)
    data = digits()
    with quiet():
        data.save_to_disk(folder / "digits")
    folders = [folder / f"parent-{seed}" for seed in SEEDS]
    anchor, source = (
        parent(target, data, seed)
        for target, seed in progress.track(list(zip(folders, SEEDS, strict=True)), "training parents")
    )
    calibration = load_samples(data["train"])
    test = batches(load_samples(data["test"]))
    comparison = compare(anchor, source, calibration, test, processor(), DEMO_METHODS, progress=progress)
    begin = time.perf_counter()
    matched = match(folders, folder / "digits", progress, minutes=MINUTES)
    fusion = merge(matched, progress)
    seconds = time.perf_counter() - begin
    comparison = replace(comparison, rows=(*comparison.rows, Row(DEFAULT, evaluate(fusion.model, test), None, seconds)))
    fused_path = fusion.save(folder / "fused", "replace")
    test_samples = measured_samples(folder / "digits", matched.options, type(anchor).__name__, anchor.config)
    report = build_report(matched, fusion.model, fusion.record, "fused", test_samples, progress, comparison.rows)
    write_report(folder, report.texts)
    update_card(fused_path, fusion.record, report.verdict, report.measured, progress)
    console.print(comparison_table(comparison))
    console.print(_knowledge({"anchor": anchor, "other parent": source, DEFAULT: fusion.model}, data["test"]))
    console.print(report.verdict)
    console.print(f"Report: {folder / 'report.html'}. Fused model: {fused_path}. The same fusion by command:")
    console.print(fuse_call(str(folder / "again"), fusion.record), soft_wrap=True, highlight=False)


def _knowledge(models: Mapping[str, PreTrainedModel], test: Dataset) -> Table:
    """Return a table of the accuracy of each model on each half of the digits."""
    parts = {name: batches(load_samples(scans)) for name, scans in halves(test).items()}
    table = Table(model_column(), *map(number_column, parts))
    for name, model in models.items():
        table.add_row(name, *(f"{evaluate(model, part).accuracy:.2%}" for part in parts.values()))
    return table
