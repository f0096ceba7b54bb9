"""Flags: which models and samples are read, and where results go."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

Models = Annotated[
    list[str] | None,
    Argument(
        metavar="ANCHOR OTHER",
        show_default=False,
        help="Checkpoint folders or hub names. The result has the first one's basis, shape and processor.",
    ),
]
Planned = Annotated[list[str], Argument(metavar="ANCHOR OTHER", help="Checkpoint folders or hub names.")]
Measured = Annotated[list[str], Argument(metavar="MODEL", help="Checkpoint folders or hub names.")]
DoctorModel = Annotated[str, Argument(metavar="MODEL", help="Checkpoint folder or hub name.")]
Anchor = Annotated[str, Argument(metavar="ANCHOR", help="The model at 0, whose basis is kept.")]
Other = Annotated[str, Argument(metavar="OTHER", help="The model at 1, aligned to it.")]
First = Annotated[str, Argument(metavar="A", help="The model at the origin, whose basis is kept.")]
Second = Annotated[str, Argument(metavar="B", help="The model on the first axis.")]
Third = Annotated[str, Argument(metavar="C", help="The third model, for example the fusion of A and B.")]
Learner = Annotated[str, Argument(metavar="MODEL", help="The model to train, fused or not.")]
Teacher = Annotated[
    list[str] | None,
    Option("--teacher", metavar="MODEL", help="Learn from this model's outputs too; several are averaged."),
]
Output = Annotated[str | None, Option("--output", "-o", metavar="OUT", help="Folder to write.")]
Folder = Annotated[Path, Option("--output", "-o", metavar="OUT", help="Folder for parents, models and report.")]
Plot = Annotated[Path | None, Option(metavar="FILE", help="A .png or .svg picture to write.")]
Config = Annotated[
    Path | None, Option(metavar="FILE", help="YAML file with the same names, and models and output. Flags override it.")
]
Overwrite = Annotated[bool | None, Option("--overwrite", help="Replace OUT if it holds a model and nothing else.")]
Data = Annotated[
    str | None,
    Option(
        "--data",
        metavar="DATA",
        help="Samples, unlabelled: a folder of images, a text, parquet, CSV or JSON-lines file, a saved dataset, or a"
        " name on the hub. Without it, models are matched by their weights.",
    ),
]
Fused = Annotated[Path, Argument(metavar="OUT", help="What fuse wrote.")]
Page = Annotated[Path | None, Option("--output", "-o", metavar="DIR", help="Folder to write to. Default: OUT.")]
Shown = Annotated[
    str | None, Option("--data", metavar="DATA", help="Samples to measure on. Default: those used for fusing.")
]
Labelled = Annotated[
    str,
    Option(
        "--data",
        metavar="DATA",
        help="Labelled samples (texts, for a language model); the test split where there are several.",
    ),
]
Both = Annotated[
    str,
    Option(
        "--data",
        metavar="DATA",
        help="Labelled samples. The test split is measured, the training split is used for alignment, if both exist.",
    ),
]
Lessons = Annotated[
    str,
    Option("--data", metavar="DATA", help="Samples to train on, labelled unless --distill is 1; the training split."),
]
Cache = Annotated[
    str | None,
    Option(
        metavar="DIR",
        help="Keep statistics, maps and fitted layers here, and reuse those of the same models and data.",
    ),
]
Spec = Annotated[
    str | None,
    Option(metavar="FILE", help="Python file that registers a family of your own (docs/adding-a-family.md)."),
]
