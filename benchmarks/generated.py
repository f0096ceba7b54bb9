"""Measure fusions by texts that the parents generate themselves, beside fusions by real texts and by weights alone.

python benchmarks/generated.py gpt2

The pair is that of `default.py`. The controls are the parents, moved towards the same targets on the generated
texts by the steps that the default took on them. All figures are from the test split.
"""

import argparse
import json
import time
from typing import Any

import torch
from common import record
from default import PAIRS, data, measurer, moved_parents, processor_of

from transfuse import fuse, match
from transfuse.data.load import load_samples
from transfuse.data.text.generation import GENERATED


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pair", choices=["gpt2"])
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    models = PAIRS[args.pair]
    given, tests = data(args.pair)
    real = load_samples(given).take(args.samples, args.seed)
    measure = measurer(models, tests)
    processor = processor_of(models[0])
    rows: dict[str, Any] = {f"parent {number}": measure(model) for number, model in enumerate(models, 1)}
    options: dict[str, Any] = {"seed": args.seed, "samples": args.samples}

    def keep(name: str, row: dict[str, Any]) -> None:
        rows[name] = row
        print(name, json.dumps(row, default=str)[:300], flush=True)
        record(f"generated-{args.pair}", {"pair": args.pair, "rows": rows})

    ways: dict[str, tuple[Any, dict[str, Any]]] = {
        "by weights alone": (None, {"seed": args.seed}),
        "least squares, generated": (GENERATED, options | {"merge": "least-squares"}),
        "least squares, real": (real, options | {"merge": "least-squares"}),
        "default, generated": (GENERATED, options | {"minutes": args.minutes}),
        "default, real": (real, options | {"minutes": args.minutes}),
    }
    for name, (samples, chosen) in ways.items():
        begin = time.perf_counter()
        fused = fuse(models, samples, processor=processor, **chosen)
        seconds = time.perf_counter() - begin
        keep(name, measure(fused.model) | {"seconds": seconds, "course": fused.record.get("learned_weights")})
    matched = match(models, GENERATED, processor=processor, **options)
    steps = rows["default, generated"]["course"]["steps"] or None
    for number, (control, history) in enumerate(moved_parents(matched, steps), 1):
        keep(f"parent {number}, moved, generated (control)", measure(control) | {"course": vars(history)})


if __name__ == "__main__":
    main()
