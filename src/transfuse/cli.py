"""The command line: parse, call, print."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from transfuse.errors import TransfuseError

app = typer.Typer(
    help="Fuse independently trained Transformers into one, by optimal transport.",
    add_completion=True, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None,
)  # fmt: skip
USAGE_ERROR: Any = typer.BadParameter.__base__

Option, Argument = typer.Option, typer.Argument
Data = Annotated[
    str | None, Option(help="Image folder, parquet/CSV/JSON-lines file or folder, saved dataset, hub name.")
]
Align = Annotated[str | None, Option(help="exact (default): the network's symmetries. flow: the paper's transport maps. none: plain average.")]  # fmt: skip # noqa: E501
Merge = Annotated[str | None, Option(help="mean (default): the weighted mean of all aligned models.")]
Evidence = Annotated[
    str | None, Option(help="auto (default), activations, weights or both: what units are matched by.")
]
Plan = Annotated[str | None, Option(help="For flow: soft (default, Sinkhorn), hard (exact), or the uniform control.")]
Regularization = Annotated[float | None, Option(help="For soft plans: relative to the largest cost; 0.08 or 0.06.")]
Number = Annotated[int | None, Option(min=1)]
Seed = Annotated[int | None, Option(help="Which calibration samples are drawn. Default 0.")]
Device = Annotated[str | None, Option(help="auto (default), cpu, cuda, cuda:1, mps.")]
Pickle = Annotated[bool, Option("--allow-pickle", help="Load pickled weights too, weights-only.")]
Json = Annotated[bool, Option("--json", help="Print one JSON document on stdout.")]
Quiet = Annotated[bool, Option("--quiet", "-q", help="Print nothing but errors.")]


@app.command()
def fuse(
    models: Annotated[list[str] | None, Argument(help="The anchor first, then the others.", show_default=False)] = None,
    output: Annotated[str | None, Option("--output", "-o", help="Directory to write.")] = None,
    data: Data = None, align: Align = None, merge: Merge = None, evidence: Evidence = None, plan: Plan = None,
    regularization: Regularization = None,
    weights: Annotated[str | None, Option(help="One per model, comma-separated. Default: equal.")] = None,
    samples: Number = None, batch_size: Number = None, seed: Seed = None, device: Device = None,
    dtype: Annotated[str | None, Option(help="Of the written weights. Default: the anchor's.")] = None,
    config: Annotated[Path | None, Option(help="YAML file with the same names; flags win.")] = None,
    overwrite: Annotated[bool, Option("--overwrite", help="Replace an existing output.")] = False,
    allow_pickle: Pickle = False, as_json: Json = False, quiet: Quiet = False,
) -> None:  # fmt: skip
    """Fuse MODELS into one checkpoint in the basis and shape of the first."""
    from transfuse.jobs import fuse_job

    given = {
        "models": tuple(models or ()), "output": output, "data": data, "align": align, "merge": merge,
        "evidence": evidence, "plan": plan, "regularization": regularization, "weights": _numbers(weights),
        "samples": samples, "batch_size": batch_size, "seed": seed, "device": device, "dtype": dtype,
        "overwrite": overwrite or None, "allow_pickle": allow_pickle or None,
    }  # fmt: skip
    path, record = fuse_job(given, config, _progress(quiet, as_json))
    if as_json:
        print(json.dumps({"output": str(path)} | record, indent=1))
    elif not quiet:
        Console().print(f"Fused {len(record['models'])} models into [bold]{path}[/bold]", highlight=False)


@app.command(name="eval")
def evaluate(
    models: Annotated[list[str], Argument(help="Checkpoints to measure.")],
    data: Annotated[str, Option(help="Labelled data; its test split where it has several.")],
    limit: Annotated[int | None, Option(min=1, help="At most so many samples, drawn by --seed.")] = None,
    batch_size: Number = None, seed: Seed = None, device: Device = None,
    allow_pickle: Pickle = False, as_json: Json = False, quiet: Quiet = False,
) -> None:  # fmt: skip
    """Accuracy and loss of every model."""
    from transfuse.jobs import eval_job
    from transfuse.report.table import metrics_table

    options = {"batch_size": batch_size, "seed": seed, "device": device, "allow_pickle": allow_pickle or None}
    found = eval_job(models, data, limit, options, _progress(quiet, as_json))
    if as_json:
        print(json.dumps({name: asdict(metrics) for name, metrics in found.items()}, indent=1))
    elif not quiet:
        Console().print(metrics_table(found))


@app.command()
def path(
    anchor: Annotated[str, Argument(help="The model at 0, whose basis is kept.")],
    source: Annotated[str, Argument(help="The model at 1, aligned to it.")],
    data: Annotated[str, Option(help="Labelled data to measure on; its training split, if any, to align.")],
    plot: Annotated[Path | None, Option(help="PNG or SVG to write.")] = None,
    align: Align = None, evidence: Evidence = None, plan: Plan = None, regularization: Regularization = None,
    points: Annotated[int, Option(min=3, help="Points of the path, both ends included.")] = 11,
    limit: Annotated[int | None, Option(min=1, help="At most so many samples, drawn by --seed.")] = None,
    samples: Number = None, batch_size: Number = None, seed: Seed = None, device: Device = None,
    allow_pickle: Pickle = False, as_json: Json = False, quiet: Quiet = False,
) -> None:  # fmt: skip
    """Loss and accuracy along the line between two aligned models, and its barrier."""
    from transfuse.jobs import path_job
    from transfuse.report.table import path_table

    options = {
        "align": align, "evidence": evidence, "plan": plan, "regularization": regularization, "samples": samples,
        "batch_size": batch_size, "seed": seed, "device": device, "allow_pickle": allow_pickle or None,
    }  # fmt: skip
    found = path_job(anchor, source, data, limit, points, plot, options, _progress(quiet, as_json))
    if as_json:
        print(json.dumps(found.as_dict(), indent=1))
    elif not quiet:
        Console().print(path_table(found))


@app.command()
def demo(
    output: Annotated[Path, Option("--output", "-o", help="Folder for parents, models and report.")] = Path("demo"),
    quiet: Quiet = False,
) -> None:
    """The whole story on scikit-learn's handwritten digits: train two ViTs, fuse them every way, write report.html."""
    from transfuse.demo.run import run

    run(output, _progress(quiet, False), Console(quiet=quiet))


def _numbers(text: str | None) -> tuple[float, ...] | None:
    try:
        return None if text is None else tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise typer.BadParameter(
            f"{text!r} is not a comma-separated list of numbers", param_hint="--weights"
        ) from error


def _progress(quiet: bool, as_json: bool) -> Any:
    from transfuse.progress import Terminal, silent

    return silent if quiet or as_json else Terminal()


def main() -> None:
    """Run; a mistake of the user's ends in one line on stderr and exit status 2."""
    try:
        sys.exit(app(standalone_mode=False))
    except USAGE_ERROR as error:
        _fail(error.format_message())
    except TransfuseError as error:
        _fail(str(error))
    except (KeyboardInterrupt, typer.Abort):
        _fail("interrupted; nothing was written", 130)


def _fail(message: str, status: int = 2) -> None:
    print(f"transfuse: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(status)
