"""Train two ViTs on digits, fuse them every way, print the table, write the page."""

import shlex
from pathlib import Path

import torch
from rich.console import Console

from transfuse.compare import WAYS, compare
from transfuse.demo.digits import batches, digits, parent, processor
from transfuse.fusion import fuse
from transfuse.io.data import load_samples
from transfuse.io.quiet import quiet
from transfuse.progress import Progress
from transfuse.report.page import page, verdict
from transfuse.report.table import comparison_table

SEEDS = (1, 2)
SHOWN = [name for name, options in WAYS.items() if options["align"] != "learned"]  # which takes minutes
TITLE = "Two vision transformers, one model: handwritten digits"


def run(folder: Path, progress: Progress, console: Console) -> None:
    """Leave parents, the data, the fused model and `report.html` in `folder`; parents are trained once."""
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
    comparison = compare(anchor, source, calibration, test, processor(), SHOWN, progress=progress)
    fused = fuse(folders, folder / "digits").save(folder / "fused", "replace")
    words = ["transfuse", "fuse", *folders, "-o", folder / "again", "--data", folder / "digits"]
    command = shlex.join(map(str, words))
    (folder / "report.html").write_text(page(comparison, TITLE, command), encoding="utf-8")
    console.print(comparison_table(comparison))
    console.print(verdict(comparison))
    console.print(f"Report: {folder / 'report.html'}. Fused model: {fused}. The same by hand:")
    console.print(command, soft_wrap=True, highlight=False)
