"""The best maps of stacked layers, such as experts, and of their units, solved for one pair of layers at a time.

Layers are matched first. The score of two layers is that of the layers themselves, such as how well the router's rows
correspond, plus an estimate of the best score of their units: the sum over a few units, each with its best partner. The
units of each matched pair are then solved exactly.
"""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from transfuse.alignment.exact.groups import best_permutation
from transfuse.alignment.exact.nested_assignment import Term, solve, unit_scores
from transfuse.alignment.exact.stacked_samples import StackedSamples
from transfuse.network.space import Group, Space
from transfuse.transport.maps import Map, Matrix, Permutation

ESTIMATED_UNITS = 32  # about as many of each layer of the source tell how well two layers correspond
Stacks = Mapping[tuple[Space, ...], Sequence[StackedSamples]]
"""Samples of the units of the same stack, by the spaces that they show, outermost first."""


def solve_stack(
    root: Space, terms: Sequence[Term], stacks: Stacks, known: Map | None = None
) -> tuple[dict[str, Map], float]:
    """Return the best map of a stack of layers and of each free space within it, and their total score.

    Args:
        root: the stack.
        terms: cross-moments of the layers themselves.
        stacks: samples of the units within the layers.
        known: the map of the stack, if it has been found already.
    """
    own = sum((term.cross[0] for term in terms), torch.zeros((), dtype=torch.float64))
    layers = known.plan().argmax(0) if known else best_permutation(own + _estimated_scores(stacks))
    score = float(own.to(layers.device)[layers, torch.arange(root.units)].sum()) if own.ndim else 0.0
    found: dict[str, list[Map]] = {}
    for target, source in enumerate(layers.tolist()):
        maps, gain = _solve_pair(stacks, source, target)
        score += gain
        for name, best in maps.items():
            found.setdefault(name, []).append(best)
    units = {name: _stacked(maps) for name, maps in found.items()}
    return units if known else {root.name: Permutation(layers), **units}, score


def _solve_pair(stacks: Stacks, source: int, target: int) -> tuple[dict[str, Map], float]:
    """Return the best maps of the units of two layers, and their score."""
    terms = _terms(stacks, slice(source, source + 1), target)
    return solve(terms[0].leaves[0], terms)


def _estimated_scores(stacks: Stacks) -> Float[Tensor, "source target"]:
    """Return an estimate of the best score of the units of each layer of the source and each of the target."""
    squares = sum(samples.square_x for parts in stacks.values() for samples in parts)
    assert isinstance(squares, Tensor)
    every = max(squares.shape[1] // ESTIMATED_UNITS, 1)
    few = {spaces: [samples.thinned(every) for samples in parts] for spaces, parts in stacks.items()}
    scores = torch.stack([_best_partners(few, target) for target in range(len(squares))], 1)
    share = squares[:, ::every].sum(1) / squares.sum(1)
    return torch.where(share > 0, scores.T / share, 0).T


def _best_partners(stacks: Stacks, target: int) -> Float[Tensor, " source"]:
    """Return the score of each layer of the source if every unit had its best partner in one layer of the target."""
    terms = _terms(stacks, slice(None), target)
    units = terms[0].leaves[0]
    scores = unit_scores(units, terms)
    return (scores.abs() if units.group is Group.SIGNED else scores).amax(2).sum(1)


def _terms(stacks: Stacks, source: slice, target: int) -> list[Term]:
    """Return the cross-moments of the units of some layers of the source with one of the target; layers are a batch."""
    terms = []
    for (_, units, *scales), parts in stacks.items():
        total = sum(samples.products(source, target) for samples in parts)
        assert isinstance(total, Tensor)
        ones = [1] * len(scales)
        terms.append(Term((units, *scales), total.reshape(len(total), total.shape[1], *ones, total.shape[2], *ones)))
    return terms


def _stacked(maps: Sequence[Map]) -> Map:
    """Return the maps of all layers as one."""
    kind = Matrix if isinstance(maps[0], Matrix) else type(maps[0])
    layers = [each.tensors() for each in maps]
    return kind(**{name: torch.stack([tensors[name] for tensors in layers]) for name in layers[0]})
