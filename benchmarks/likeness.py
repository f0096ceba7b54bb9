"""Measure correlations between the units of two networks: as trained, permuted, and exactly aligned.

python benchmarks/likeness.py --dataset cifar10 --pair 1,2

For one block, the script records the correlation matrices of the residual stream, of the channels of the values, and of
the first hidden units. For every block, it records the mean correlation of units with the same number. Alignment uses
the weights alone. The correlations are over all tokens of validation samples.
"""

import argparse
from collections.abc import Mapping
from typing import Any

import torch
from common import record
from subjects import SUBJECTS, Judge
from torch import Tensor

from transfuse.activations.hook_points import HookPoint
from transfuse.activations.hooks import collect_moments
from transfuse.alignment.exact.canonical_form import canonicalize
from transfuse.alignment.spec_for import alignment_spec
from transfuse.config.make import make
from transfuse.config.options import Options
from transfuse.fusion.align import align
from transfuse.fusion.calibration import calibrate
from transfuse.network.model import Network, network, with_tensors
from transfuse.network.spec import Spec
from transfuse.transport.cost import Moments, standardize

METHODS: dict[str, dict[str, Any]] = {
    "as trained": {"align": "none"},
    "permuted": {"align": "exact", "groups": "permutations"},
    "exact": {"align": "exact"},
}
PLACES = {"stream": "layernorm_before", "heads": "attention.v_proj", "hidden": "mlp.fc1"}


def probes(spec: Spec) -> dict[str, HookPoint]:
    """Return, by module, hook points at the outputs of each block's first norm, values and first MLP layer."""
    norms = {norm.name: norm.space for norm in spec.norms()}
    axes = norms | {linear.name: linear.writes for linear in spec.linears()}
    return {
        name: HookPoint(name, "output", axis) for name, axis in axes.items() if name.endswith(tuple(PLACES.values()))
    }


def correlation(seen: Moments) -> Tensor:
    """Return the correlations of the anchor's units (rows) with the other model's units."""
    return (standardize(seen).cross / (seen.count - 1)).T


def measured(method: Mapping[str, Any], networks: list[Network], batches: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Return the correlations at every hook point for one alignment."""
    chosen = make(Options, {"merge": "mean"} | dict(method))
    context = calibrate(networks, networks[0].model, None, chosen)
    (aligned,), _ = align(networks, [0.5, 0.5], context, chosen)
    spec, tensors = aligned.spec, (aligned.carried, aligned.anchor)
    if chosen.align == "none":  # fold the norms, as the other methods do
        spec = alignment_spec(networks[0].spec, "exact", context.flow, "all")
        tensors = tuple(canonicalize(spec, each.tensors) for each in networks[::-1])
    models = [with_tensors(networks[0].model, each) for each in tensors]
    found = probes(spec)
    seen = collect_moments(*models, found.values(), batches, product_dtype=lambda point: torch.float64)
    return {name: correlation(seen[probe]) for name, probe in found.items()}


def rows(matrix: Tensor) -> list[str]:
    """Format the matrix in percent, one line per row."""
    return [" ".join(str(round(100 * value)) for value in row) for row in matrix.tolist()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="cifar10", choices=SUBJECTS)
    parser.add_argument("--pair", default="1,2")
    parser.add_argument("--block", type=int, default=1)
    parser.add_argument(
        "--units", type=int, default=48, help="number of units of the stream and of the hidden layer to record"
    )
    parser.add_argument("--samples", type=int, default=500)
    args = parser.parse_args()
    torch.set_num_threads(1)
    subject, seeds = SUBJECTS[args.dataset], args.pair.split(",")
    networks = [network(subject.model(seed), torch.device("cpu")) for seed in seeds]
    batches = [
        {name: values for name, values in batch.items() if name != "labels"}
        for batch in Judge(subject, seeds[0], "validation", args.samples).batches
    ]
    matrices: dict[str, dict[str, list[str]]] = {place: {} for place in PLACES}
    diagonals: dict[str, dict[str, list[float]]] = {place: {} for place in PLACES}
    for method, options in METHODS.items():
        found = measured(options, networks, batches)
        for place, module in PLACES.items():
            blocks = [matrix for name, matrix in found.items() if name.endswith(module)]
            units = None if place == "heads" else args.units
            matrices[place][method] = rows(blocks[args.block][:units, :units])
            diagonals[place][method] = [round(float(matrix.diagonal().mean()), 4) for matrix in blocks]
            print(place, method, diagonals[place][method], flush=True)
    heads = networks[0].model.config.num_attention_heads
    settings = {"pair": args.pair, "block": args.block, "samples": args.samples, "heads": heads}
    record(f"likeness-{args.dataset}", settings | {"diagonals": diagonals, "matrices": matrices})


if __name__ == "__main__":
    main()
