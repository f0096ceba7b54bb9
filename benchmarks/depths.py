"""Measure a fusion of two ViTs of different depths, beside controls that take the same steps.

python benchmarks/parents.py --dataset cifar10 --blocks 3 --seeds 1 --epochs 20 --name cifar10-vit-shallow
python benchmarks/depths.py --steps 300

The deeper one is the anchor. Blocks that do nothing are put between those of the other, where the streams of both on
some samples say, or evenly spaced. All figures are from the test split.
"""

import argparse
from pathlib import Path
from typing import Any

import torch
from common import PARENTS, record, split
from default import SHARED, measurer, processor_of
from rows import load, markdown
from widths import taught

from transfuse import fuse, match
from transfuse.checkpoint.load import load_model
from transfuse.data.load import load_samples
from transfuse.distillation.validation import split_with_answers
from transfuse.fusion import match as matching

CLOSED: dict[str, Any] = {"merge": "least-squares"}


def table() -> str:
    """Return test loss and accuracy of every way."""
    rows = [
        [name, f"{row['loss']:.3f} ({100 * row['accuracy']:.1f} %)"] for name, row in load("depths")["rows"].items()
    ]
    return markdown(["", "test loss (accuracy)"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--deep", type=Path, default=SHARED / "parents" / "cifar10-vit-a")
    parser.add_argument("--shallow", type=Path, default=PARENTS / "cifar10-vit-shallow-1")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--samples", type=int, default=2000)
    args = parser.parse_args()
    torch.set_num_threads(1)
    given = load_samples(split("cifar10", "train").remove_columns("label"))
    models = [args.deep, args.shallow]
    measure = measurer(models, {"test": split("cifar10", "test")})
    rows: dict[str, dict[str, Any]] = {}
    options: dict[str, Any] = {"samples": args.samples, "processor": processor_of(args.deep)}

    def keep(name: str, model: Any, **facts: Any) -> None:
        rows[name] = measure(model)["test"] | facts
        print(name, rows[name], flush=True)
        record("depths", {"steps": args.steps, "samples": args.samples, "rows": rows})

    keep("the deeper parent, which is the anchor", args.deep)
    keep("the other parent", args.shallow)
    keep("**`--merge least-squares`**", fuse(models, given, **options, **CLOSED).model)
    keep("closed form, without alignment (control)", fuse(models, given, align="none", **options, **CLOSED).model)
    by_streams = matching.sampled_similarity
    matching.sampled_similarity = lambda *args: lambda anchor, source: None
    keep("closed form, blocks spaced evenly (control)", fuse(models, given, **options, **CLOSED).model)
    matching.sampled_similarity = by_streams
    learned = fuse(models, given, merge="learned", steps=args.steps, **options)
    course = learned.record["learned_weights"]
    keep("**`--merge learned`**", learned.model, start=course["start"], best=course["best"])
    loaded = [load_model(model).eval() for model in models]
    batches = split_with_answers(loaded[0], match(models, given, **options).context.batches, "weights")
    keep("the anchor, taught by both (control)", taught(loaded, [0.5, 0.5], batches, args.steps))


if __name__ == "__main__":
    main()
