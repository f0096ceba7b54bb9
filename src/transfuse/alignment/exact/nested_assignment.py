"""The best maps of a space and of all spaces within it, solved together.

The score of two units is how well they correspond themselves plus the best score of what is within them: channels
within heads, query heads within key-value groups, scales within hidden units. Sibling spaces within one unit that meet
in one tensor (the query heads of a group and their channels) are solved in turn, each given the others, until nothing
improves.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from transfuse.alignment.exact.groups import as_matrix, best_element
from transfuse.network.space import Group, Space
from transfuse.transport.maps import Map, Permutation, SignedPermutation, rotation

MAX_ROUNDS = 10  # of sibling spaces
Elements = dict[str, Float[Tensor, "batch *within source target"]]


@dataclass(frozen=True, eq=False)
class Term:
    """A cross-moment of shape (batch, *source units, *target units) over the units of `leaves`."""

    leaves: tuple[Space, ...]
    cross: Tensor


def solve(root: Space, terms: Sequence[Term], known: Map | None = None) -> tuple[dict[str, Map], float]:
    """Return the best map of each free space among `root` and the spaces within it, and their total score.

    Args:
        root: the outermost space.
        terms: cross-moments of batch size one. Their leaves are `root` and spaces within it.
        known: the map of `root`, if it has been found already.
    """
    if known is None and root.group.permutes and [term.leaves for term in terms] == [(root,)]:
        permutation, gain = _solve_permutation(root.group, terms[0].cross[0])
        return {root.name: permutation}, gain
    matrix = None if known is None else as_matrix(known, root.units).to(terms[0].cross.device).unsqueeze(0)
    elements, score = _solve_space(root, terms, matrix)
    free = {space.name: space for term in terms for space in term.leaves if space.free}
    maps = {name: _as_map(free[name].group, element[0]) for name, element in elements.items()}
    return maps, float(score)


def _solve_permutation(group: Group, score: Float[Tensor, "source target"]) -> tuple[Map, float]:
    """Return the best permutation of a space without spaces within it, and its score, without its matrix."""
    best = best_element(group, score)
    assert isinstance(best, Permutation)
    chosen = score.gather(0, best.index.unsqueeze(0)).squeeze(0)
    return best, float((chosen * best.sign if isinstance(best, SignedPermutation) else chosen).sum())


def unit_scores(space: Space, terms: Sequence[Term]) -> Float[Tensor, "batch source target"]:
    """Return how well units of a free space correspond, with the best elements within each pair.

    Args:
        space: the space.
        terms: cross-moments. There may be fewer units of the source than of the target.
    """
    return _scores(space, terms)[1]


def _as_map(group: Group, element: Float[Tensor, "*within source target"]) -> Map:
    if not group.permutes:
        return rotation(element)
    index = element.abs().argmax(-2)
    if group is Group.PERMUTATION:
        return Permutation(index)
    return SignedPermutation(index, element.gather(-2, index.unsqueeze(-2)).squeeze(-2))


# One space, with all spaces within it


def _solve_space(
    space: Space, terms: Sequence[Term], known: Float[Tensor, "batch source target"] | None = None
) -> tuple[Elements, Float[Tensor, " batch"]]:
    """Return the best elements of a space, unless it is known, and of the spaces within it, and their score."""
    inner, score = _scores(space, terms)
    if not space.free:
        return {name: element.unflatten(0, score.shape) for name, element in inner.items()}, score.sum(-1)
    element = as_matrix(best_element(space.group, score), space.units) if known is None else known
    elements = {space.name: element}
    if inner:
        sources = element.abs().argmax(-2)  # (batch, target): only permuted units enclose others
        batch, target = (torch.arange(count, device=score.device) for count in (len(score), space.units))
        for name, within in inner.items():
            elements[name] = within.unflatten(0, score.shape)[batch[:, None], sources, target]
    return elements, (element * score).sum((-1, -2))


def _scores(space: Space, terms: Sequence[Term]) -> tuple[Elements, Float[Tensor, "batch *pair"]]:
    """Return the score of each pair of units, or of each unit if the space is fixed, with the best elements within."""
    split = [_split(space, term) for term in terms]  # (batch, source, target, rest), or (batch, unit, rest) if fixed
    flat = [Term(term.leaves, term.cross.flatten(0, -1 - 2 * len(term.leaves))) for term in split]
    sizes = split[0].cross.shape[: split[0].cross.ndim - 2 * len(split[0].leaves)]
    inner, score = _solve_siblings(_outermost(split), [term for term in flat if _has_free(term)])
    constant = [torch.einsum(_trace_equation(term), term.cross) for term in flat if not _has_free(term)]
    return inner, sum(constant, score).reshape(sizes)


def _split(space: Space, term: Term) -> Term:
    """Move the units of a space to the front, as pairs of source and target, or once if the space is fixed."""
    place, count = term.leaves.index(space), len(term.leaves)
    source, target = 1 + place, 1 + count + place
    leaves = term.leaves[:place] + term.leaves[place + 1 :]
    if space.free:
        return Term(leaves, term.cross.movedim([source, target], [1, 2]))
    return Term(leaves, term.cross.diagonal(0, source, target).movedim(-1, 1))


def _outermost(terms: Sequence[Term]) -> list[Space]:
    """Return the outermost spaces of the terms that are free or enclose free spaces."""
    outermost: dict[Space, None] = {}
    for term in terms:
        for space in term.leaves:
            if space.free:
                chain = [parent for parent in (*space.ancestors(), space) if parent in term.leaves]
                outermost[chain[0]] = None
    return list(outermost)


# Sibling spaces


def _solve_siblings(spaces: Sequence[Space], terms: Sequence[Term]) -> tuple[Elements, Float[Tensor, " batch"]]:
    """Solve sibling spaces in turn, each given the others, until the score no longer improves."""
    solved: dict[Space, Elements] = {}
    before: Tensor | None = None
    score = torch.zeros((), dtype=torch.float64)
    for _ in range(MAX_ROUNDS):
        progress = False
        for space in spaces:
            ready = [term for term in terms if space in term.leaves and _others_solved(term, spaces, space, solved)]
            if ready:
                elements = _flattened(solved)
                solved[space], score = _solve_space(space, [_restrict(term, space, elements) for term in ready])
                progress = True
        if not progress and len(solved) < len(spaces):  # two spaces that only meet each other: start from the identity
            start = next(space for space in spaces if space not in solved)
            solved[start] = _identities(start, terms)
            continue
        if len(spaces) == 1:
            break
        if len(solved) < len(spaces):
            continue
        elements = _flattened(solved)
        score = sum((_score(term, elements) for term in terms), torch.zeros((), dtype=torch.float64))
        if before is not None and not (score > before + 1e-9 * before.abs()).any():
            break
        before = score
    return _flattened(solved), score


def _flattened(solved: Mapping[Space, Elements]) -> Elements:
    return {name: element for elements in solved.values() for name, element in elements.items()}


def _others_solved(term: Term, spaces: Sequence[Space], space: Space, solved: Mapping[Space, Elements]) -> bool:
    return all(other == space or other in solved for other in spaces if other in term.leaves)


def _identities(space: Space, terms: Sequence[Term]) -> Elements:
    """Return the identity for a space and every free space within it."""
    inside = {leaf for term in terms for leaf in term.leaves if leaf.free and space in (leaf, *leaf.ancestors())}
    batch, device = terms[0].cross.shape[0], terms[0].cross.device
    elements = {}
    for inner in inside:
        chain = inner.ancestors()
        outer = [parent.units for parent in chain[chain.index(space) :]] if space in chain else []
        eye = torch.eye(inner.units, dtype=torch.float64, device=device)
        elements[inner.name] = eye.expand(batch, *outer, -1, -1)
    return elements


# Contractions of terms


def _restrict(term: Term, space: Space, elements: Mapping[str, Tensor]) -> Term:
    """Sum over the units of all spaces outside `space`, weighted by their elements."""
    inside = tuple(leaf for leaf in term.leaves if space in (leaf, *leaf.ancestors()))
    letters = _letters(term.leaves)
    # Fixed units that remain are paired with themselves later on, so they need two letters here.
    letters |= {leaf: (pair[0], chr(ord(pair[0]) + 1)) for leaf, pair in letters.items() if leaf in inside}
    sources, targets = ("".join(letters[leaf][side] for leaf in inside) for side in (0, 1))
    outside = [leaf for leaf in term.leaves if leaf not in inside]
    return Term(inside, _contract(term, letters, outside, elements, sources + targets))


def _score(term: Term, elements: Mapping[str, Tensor]) -> Float[Tensor, " batch"]:
    return _contract(term, _letters(term.leaves), term.leaves, elements, "")


def _contract(
    term: Term,
    letters: Mapping[Space, tuple[str, str]],
    summed: Sequence[Space],
    elements: Mapping[str, Tensor],
    remaining: str,
) -> Tensor:
    """Sum over the units of the spaces `summed`, weighted by their elements; `remaining` are the letters that stay."""
    sources, targets = ("".join(letters[leaf][side] for leaf in term.leaves) for side in (0, 1))
    operands = [term.cross]
    subscripts = [f"z{sources}{targets}"]
    for space in (space for space in summed if space.free):
        outer = "".join(letters[parent][1] for parent in space.ancestors() if parent in term.leaves)
        operands.append(elements[space.name])
        subscripts.append(f"z{outer}{letters[space][0]}{letters[space][1]}")
    return torch.einsum(f"{','.join(subscripts)}->z{remaining}", *operands)


def _has_free(term: Term) -> bool:
    return any(space.free for space in term.leaves)


def _trace_equation(term: Term) -> str:
    """Return the einsum equation that sums each fixed unit paired with itself."""
    letters = _letters(term.leaves)
    return f"z{''.join(a for a, _ in letters.values())}{''.join(b for _, b in letters.values())}->z"


def _letters(leaves: Sequence[Space]) -> dict[Space, tuple[str, str]]:
    """Return the einsum letters of each space's source and target units, which are the same for a fixed space."""
    return {
        space: (chr(97 + 2 * place), chr(97 + 2 * place + (1 if space.free else 0)))
        for place, space in enumerate(leaves)
    }
