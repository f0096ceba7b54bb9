"""Flags: how much, on what, and how a command speaks."""

from typing import Annotated

from typer import Option

Samples = Annotated[
    int | None,
    Option(
        metavar="COUNT", help="Samples to align and fit by. Default: 200 for flow, 2000 for exact and least-squares."
    ),
]
Limit = Annotated[
    int | None, Option(min=1, metavar="COUNT", help="Measure on this many samples only, drawn by --seed.")
]
Report = Annotated[
    bool | None,
    Option("--report", help="Write OUT/report.html too; with --data, measured on its test split (2000 samples)."),
]
Classes = Annotated[bool, Option("--classes", help="Show precision, recall and F1 of every class too.")]
Points = Annotated[int, Option(min=3, metavar="COUNT", help="Points of the path, both ends included.")]
Side = Annotated[int, Option("--points", min=3, metavar="COUNT", help="Points a side of the grid.")]
Margin = Annotated[float, Option(min=0.0, metavar="PART", help="How far the grid reaches beyond the models.")]
Metric = Annotated[str, Option(metavar="loss|accuracy", help="What the picture shows.")]
Seed = Annotated[int | None, Option(metavar="NUMBER", help="Seed for drawing samples. Default: 0.")]
BatchSize = Annotated[int | None, Option(metavar="COUNT", help="Samples at a time. Default: 100.")]
Device = Annotated[
    str | None,
    Option("--device", metavar="DEVICE", help="auto (default): cuda where there is one. Or cpu, cuda:1, mps."),
]
MaxMemory = Annotated[
    str | None,
    Option(
        metavar="SIZE",
        help="Memory limit of the process, as 8GB. Models that do not fit are streamed, tensor by tensor, if possible.",
    ),
]
MaxDeviceMemory = Annotated[str | None, Option(metavar="SIZE", help="Memory limit on the GPU, as 20GB.")]
Bound = Annotated[str | None, Option("--max-memory", metavar="SIZE", help="Memory limit of the process, as 8GB.")]
Resume = Annotated[bool, Option("--resume", help="Continue a run into the same OUT that was interrupted.")]
Pickle = Annotated[bool | None, Option("--allow-pickle", help="Read pickled weights too; only tensors are unpickled.")]
Json = Annotated[bool, Option("--json", help="Print one JSON document on stdout.")]
Quiet = Annotated[bool, Option("--quiet", "-q", help="Print nothing but errors.")]
Version = Annotated[bool, Option("--version", help="Print the version and exit.")]
