"""A common basis for more than two models: each is aligned to the mean of all others, until nothing improves.

Generalised Procrustes analysis (Gower, 1975) over every exact group: a barycentre instead of an anchor's basis. Each
model has one map into it, so that maps between any two are consistent by construction (Crisostomi et al., 2405.17897,
who know permutations, and reach it by Frank-Wolfe steps). The anchor stays where it is: a group acts linearly, so that
only how models lie to each other matters, and the merged model has its basis.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from transfuse.alignment.exact.coordinate_descent import coordinate_descent, from_weights
from transfuse.alignment.exact.groups import identity
from transfuse.alignment.interface import Alignment, aligned_weights
from transfuse.alignment.transform import transform_all
from transfuse.base.lazy import Hold, Tensors, in_memory
from transfuse.merging.mean import mean
from transfuse.transport.solve import Match

ROUNDS = 10  # at most
TOLERANCE = 1e-3  # it ends where a round takes less than this share of the spread away


def generalized_procrustes(
    alignments: Sequence[Alignment],
    weights: Sequence[float],
    each: Callable[[Sequence[int]], Iterable[int]] = lambda rounds: rounds,
    hold: Hold = in_memory,
) -> list[Alignment]:
    """The same models, moved within their groups towards each other.

    Args:
        alignments: of all models after the anchor, by exact groups; `weights`: of the anchor and of them.
        hold: what to do with models that are used again.
    """
    found = list(alignments)
    before = dispersion(found, weights)
    for _ in each(range(ROUNDS)):
        for index, one in enumerate(found):
            others = [other for place, other in enumerate(aligned_weights(found)) if place != index + 1]
            rest = [weight for place, weight in enumerate(weights) if place != index + 1]
            rest = rest if sum(rest) else [1.0] * len(rest)
            target = hold(mean(others, [weight / sum(rest) for weight in rest]))
            found[index] = replace(one, carried=hold(_towards(one, target)))
        now = dispersion(found, weights)
        if now > (1 - TOLERANCE) * before:
            break
        before = now
    return found


def dispersion(alignments: Sequence[Alignment], weights: Sequence[float]) -> float:
    """The weighted squared distance of all models from their mean."""
    models = aligned_weights(alignments)
    total = 0.0
    for name, middle in mean(models, weights).items():
        for weight, model in zip(weights, models, strict=True):
            total += weight * float((model[name].double() - middle.double()).square().sum())
    return total


def _towards(aligned: Alignment, target: Tensors) -> Tensors:
    """A carried model, carried on to a target in the same basis."""
    start = {name: Match(identity(space), 1.0) for name, space in aligned.spec.spaces().items()}
    matches = coordinate_descent(aligned.spec, from_weights(aligned.spec, aligned.carried, target), start)
    return transform_all(aligned.spec, aligned.carried, {name: match.map for name, match in matches.items()})
