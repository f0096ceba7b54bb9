"""Measure a fusion of two ViTs of different depths, beside controls that take the same steps.

python benchmarks/parents.py --dataset cifar10 --blocks 3 --seeds 1 --epochs 20 --name cifar10-vit-shallow
python benchmarks/depths.py --steps 300

Each of the two is the anchor once. With the deeper anchor, blocks that do nothing are put between those of the other,
where the streams of both on some samples say, or evenly spaced. With the shallower anchor, the other gives up blocks,
and it teaches as a whole. All figures are from the test split.
"""

import argparse
from pathlib import Path
from typing import Any

import torch
from common import PARENTS, load, record, split
from default import SHARED, measurer, processor_of
from rows import markdown
from widths import taught

from transfuse import fuse, match, shrink
from transfuse.checkpoint.load import load_model
from transfuse.data.load import load_samples
from transfuse.distillation.validation import split_with_answers
from transfuse.fusion.depth import depth
from transfuse.fusion.depth_samples import DepthSamples

CLOSED: dict[str, Any] = {"merge": "least-squares"}


def table() -> str:
    """Return test loss and accuracy of every way, with each anchor."""
    found = load("depths")["rows"]
    names = list(dict.fromkeys(name for rows in found.values() for name in rows))

    def cell(row: dict[str, Any] | None) -> str:
        return f"{row['loss']:.3f} ({100 * row['accuracy']:.1f} %)" if row else ""

    rows = [[name, *(cell(rows.get(name)) for rows in found.values())] for name in names]
    return markdown(["test loss (accuracy)", *(f"anchor: the {kind} one" for kind in found)], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--deep", type=Path, default=SHARED / "parents" / "cifar10-vit-a")
    parser.add_argument("--shallow", type=Path, default=PARENTS / "cifar10-vit-shallow-1")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--samples", type=int, default=2000)
    args = parser.parse_args()
    torch.set_num_threads(1)
    given = load_samples(split("cifar10", "train").remove_columns("label"))
    measure = measurer([args.deep, args.shallow], {"test": split("cifar10", "test")})
    rows: dict[str, dict[str, Any]] = {}
    options: dict[str, Any] = {"samples": args.samples, "processor": processor_of(args.deep)}
    for kind, models in {"deeper": [args.deep, args.shallow], "shallower": [args.shallow, args.deep]}.items():
        found = rows.setdefault(kind, {})

        def keep(name: str, model: Any, to: dict[str, Any] = found, **facts: Any) -> None:
            to[name] = measure(model)["test"] | facts
            print(name, to[name], flush=True)
            record("depths", {"steps": args.steps, "samples": args.samples, "rows": rows})

        keep("the anchor", models[0])
        keep("the other parent", models[1])
        keep("**`--merge least-squares`**", fuse(models, given, **options, **CLOSED).model)
        keep("closed form, without alignment (control)", fuse(models, given, align="none", **options, **CLOSED).model)
        if kind == "deeper":
            by_streams = DepthSamples.similarity
            DepthSamples.similarity = lambda *_: None
            keep("closed form, blocks spaced evenly (control)", fuse(models, given, **options, **CLOSED).model)
            DepthSamples.similarity = by_streams
        learned = fuse(models, given, merge="learned", steps=args.steps, **options)
        course = learned.record["learned_weights"]
        keep("**`--merge learned`**", learned.model, start=course["start"], best=course["best"])
        loaded = [load_model(model).eval() for model in models]
        batches = split_with_answers(loaded[0], match(models, given, **options).context.batches, "weights")
        keep("the anchor, taught by both (control)", taught(loaded, [0.5, 0.5], batches, args.steps))
        if kind == "shallower":
            keep("the anchor, taught by the other (control)", taught(loaded, [0.0, 1.0], batches, args.steps))
            small = shrink(args.deep, given, layers=depth(loaded[0].config), steps=args.steps, **options)
            keep("the other, shrunk to this depth (control)", small.model)


if __name__ == "__main__":
    main()
