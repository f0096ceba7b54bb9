"""A common basis for more than two models: generalized Procrustes analysis (Gower, 1975) over every exact group.

Each model is aligned to the mean of all others until the models stop coming closer. Each model has one map into the
common basis, so maps between any two models are consistent by construction. Crisostomi et al. (2405.17897) do this for
permutations, with Frank-Wolfe steps. The anchor does not move: a group acts linearly, so only the positions of the
models relative to each other matter, and the merged model has the anchor's basis.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from transfuse.alignment.exact.coordinate_descent import coordinate_descent
from transfuse.alignment.exact.evidence import from_weights
from transfuse.alignment.exact.groups import identity
from transfuse.alignment.interface import Alignment, aligned_weights
from transfuse.alignment.transform import transform_all
from transfuse.base.lazy import Materialize, Tensors, in_memory
from transfuse.merging.mean import mean
from transfuse.transport.solve import Match, maps_of

MAX_ROUNDS = 10
TOLERANCE = 1e-3  # it stops after a round that lowers the dispersion by less than this share


def generalized_procrustes(
    alignments: Sequence[Alignment],
    weights: Sequence[float],
    track: Callable[[Iterable[int]], Iterable[int]] = lambda rounds: rounds,
    hold: Materialize = in_memory,
) -> list[Alignment]:
    """Move the models within their groups toward each other.

    Args:
        alignments: exact alignments of all models after the anchor.
        weights: of the anchor and of these models.
        track: wraps the rounds, to show progress.
        hold: whether tensors that are used again are kept or computed anew.
    """
    closer = list(alignments)
    before = dispersion(closer, weights)
    for _ in track(iter(range(MAX_ROUNDS))):  # how many are needed is unknown
        for index, alignment in enumerate(closer):
            others = [model for place, model in enumerate(aligned_weights(closer)) if place != index + 1]
            shares = [weight for place, weight in enumerate(weights) if place != index + 1]
            shares = shares if sum(shares) else [1.0] * len(shares)
            target = hold(mean(others, [share / sum(shares) for share in shares]))
            closer[index] = replace(alignment, carried=hold(_realigned(alignment, target)))
        after = dispersion(closer, weights)
        if after > (1 - TOLERANCE) * before:
            break
        before = after
    return closer


def dispersion(alignments: Sequence[Alignment], weights: Sequence[float]) -> float:
    """Return the weighted squared distance of all models from their mean."""
    models = aligned_weights(alignments)
    total = 0.0
    for name, center in mean(models, weights).items():
        for weight, model in zip(weights, models, strict=True):
            total += weight * float((model[name].double() - center.double()).square().sum())
    return total


def _realigned(alignment: Alignment, target: Tensors) -> Tensors:
    """Align a model in the common basis, by its weights, to a target in the same basis."""
    spec = alignment.spec
    start = {name: Match(identity(space), 1.0) for name, space in spec.spaces().items()}
    matches = coordinate_descent(spec, from_weights(spec, alignment.carried, target), start)
    return transform_all(spec, alignment.carried, maps_of(matches))
