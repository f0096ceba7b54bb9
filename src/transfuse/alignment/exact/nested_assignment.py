"""The best maps of a space and of everything that lies within it, solved together.

What two units score is what they look like plus the best score of what lies within them: channels within heads, query
heads within key-value groups, scales within hidden units. Spaces side by side within one unit that meet in one tensor
(the query heads of a group and their channels) are solved in turn, each given the others, until nothing improves.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from transfuse.alignment.exact.groups import as_matrix, best_element
from transfuse.network.space import Group, Space
from transfuse.transport.maps import Map, Permutation, SignedPermutation, rotation

ROUNDS = 10  # of spaces side by side, at most
Elements = dict[str, Float[Tensor, "batch *within source target"]]


@dataclass(frozen=True, eq=False)
class Term:
    """A cross-moment [batch, *source units, *target units] over the units of `leaves`."""

    leaves: tuple[Space, ...]
    cross: Tensor


def solve(root: Space, terms: Sequence[Term], given: Map | None = None) -> tuple[dict[str, Map], float]:
    """The best map of `root`, unless it is fixed, and of every free space within it; and what they score.

    Args:
        terms: of batch size one; the leaves of each are `root` and spaces within it.
        given: the map of `root`, if it is known already.
    """
    known = None if given is None else as_matrix(given, root.units).to(terms[0].cross.device).unsqueeze(0)
    elements, value = _alone(root, terms, known)
    free = {space.name: space for term in terms for space in term.leaves if space.free}
    maps = {name: _as_map(free[name].group, found[0]) for name, found in elements.items()}
    return maps, float(value)


def _as_map(group: Group, element: Float[Tensor, "*within source target"]) -> Map:
    if group not in (Group.PERMUTATION, Group.SIGNED):
        return rotation(element)
    index = element.abs().argmax(-2)
    if group is Group.PERMUTATION:
        return Permutation(index)
    return SignedPermutation(index, element.gather(-2, index.unsqueeze(-2)).squeeze(-2))


def _alone(
    space: Space, terms: Sequence[Term], given: Float[Tensor, "batch source target"] | None = None
) -> tuple[Elements, Float[Tensor, " batch"]]:
    """One space, unless its map is given, with what lies within it."""
    split = [_split(space, term) for term in terms]  # [batch, source, target (or unit), rest]
    inner = _outermost(split)
    flat = [Term(term.leaves, term.cross.flatten(0, -1 - 2 * len(term.leaves))) for term in split]
    sizes = split[0].cross.shape[: split[0].cross.ndim - 2 * len(split[0].leaves)]
    below, score = _together(inner, [term for term in flat if _varies(term)])
    still = [torch.einsum(_trace(term), term.cross) for term in flat if not _varies(term)]
    score = sum(still, score).reshape(sizes)
    if not space.free:
        return {name: found.unflatten(0, sizes) for name, found in below.items()}, score.sum(-1)
    element = as_matrix(best_element(space.group, score), space.units) if given is None else given
    elements = {space.name: element}
    if below:
        chosen = element.abs().argmax(-2)  # [batch, target]: only units that are permuted hold others
        batch, target = (torch.arange(count, device=score.device) for count in (sizes[0], space.units))
        elements |= {name: found.unflatten(0, sizes)[batch[:, None], chosen, target] for name, found in below.items()}
    return elements, (element * score).sum((-1, -2))


def _split(space: Space, term: Term) -> Term:
    """The term with a space's units in front: pairs of them, or of a fixed space each with itself."""
    place, count = term.leaves.index(space), len(term.leaves)
    source, target = 1 + place, 1 + count + place
    leaves = term.leaves[:place] + term.leaves[place + 1 :]
    if space.free:
        return Term(leaves, term.cross.movedim([source, target], [1, 2]))
    return Term(leaves, term.cross.diagonal(0, source, target).movedim(-1, 1))


def _outermost(terms: Sequence[Term]) -> list[Space]:
    """The spaces that stand side by side and hold, or are, something to be found."""
    found: dict[Space, None] = {}
    for term in terms:
        for space in term.leaves:
            if space.free:
                chain = [each for each in (*space.ancestors(), space) if each in term.leaves]
                found[chain[0]] = None
    return list(found)


def _varies(term: Term) -> bool:
    return any(space.free for space in term.leaves)


def _trace(term: Term) -> str:
    """Every fixed unit with itself, summed."""
    letters = _letters(term.leaves)
    return f"z{''.join(a for a, _ in letters.values())}{''.join(b for _, b in letters.values())}->z"


def _letters(leaves: Sequence[Space]) -> dict[Space, tuple[str, str]]:
    """Names of the source's and the target's units for einsum; the same where they are fixed."""
    return {
        space: (chr(97 + 2 * place), chr(97 + 2 * place + (1 if space.free else 0)))
        for place, space in enumerate(leaves)
    }


def _together(spaces: Sequence[Space], terms: Sequence[Term]) -> tuple[Elements, Float[Tensor, " batch"]]:
    """Spaces side by side, each given the others."""
    found: dict[Space, Elements] = {}
    before: Tensor | None = None
    value = torch.zeros((), dtype=torch.float64)
    for _ in range(ROUNDS):
        progress = False
        for space in spaces:
            ready = [term for term in terms if space in term.leaves and _known(term, spaces, space, found)]
            if ready:
                known = _all(found)
                found[space], value = _alone(space, [_given(term, space, known) for term in ready])
                progress = True
        if not progress and len(found) < len(spaces):  # two that meet only each other: begin with one as it is
            start = next(space for space in spaces if space not in found)
            found[start] = _identity(start, terms)
            continue
        if len(spaces) == 1:
            break
        if len(found) < len(spaces):
            continue
        everything = _all(found)
        value = sum((_value(term, everything) for term in terms), torch.zeros((), dtype=torch.float64))
        if before is not None and not (value > before + 1e-9 * before.abs()).any():
            break
        before = value
    return _all(found), value


def _all(found: Mapping[Space, Elements]) -> Elements:
    return {name: element for each in found.values() for name, element in each.items()}


def _known(term: Term, spaces: Sequence[Space], space: Space, found: Mapping[Space, Elements]) -> bool:
    return all(other == space or other in found for other in spaces if other in term.leaves)


def _identity(space: Space, terms: Sequence[Term]) -> Elements:
    """Every free space within one, and itself, as it is."""
    inside = {each for term in terms for each in term.leaves if each.free and space in (each, *each.ancestors())}
    batch, device = len(terms[0].cross), terms[0].cross.device
    made = {}
    for each in inside:
        chain = each.ancestors()
        outer = [parent.units for parent in chain[chain.index(space) :]] if space in chain else []
        made[each.name] = torch.eye(each.units, dtype=torch.float64, device=device).expand(batch, *outer, -1, -1)
    return made


def _given(term: Term, space: Space, known: Mapping[str, Tensor]) -> Term:
    """The term with every other space's units summed under its map; those within `space` stay."""
    kept = tuple(each for each in term.leaves if space in (each, *each.ancestors()))
    letters = _letters(term.leaves)
    # Fixed units that stay are taken with themselves later on: here they need two names.
    letters |= {each: (pair[0], chr(ord(pair[0]) + 1)) for each, pair in letters.items() if each in kept}
    sources, targets = ("".join(letters[each][side] for each in kept) for side in (0, 1))
    return Term(kept, _contract(term, letters, [e for e in term.leaves if e not in kept], known, sources + targets))


def _value(term: Term, known: Mapping[str, Tensor]) -> Float[Tensor, " batch"]:
    return _contract(term, _letters(term.leaves), term.leaves, known, "")


def _contract(
    term: Term, letters: Mapping[Space, tuple[str, str]], gone: Sequence[Space], known: Mapping[str, Tensor], out: str
) -> Tensor:
    """Sum over the units of `gone`, weighted by their maps."""
    sources, targets = ("".join(letters[each][side] for each in term.leaves) for side in (0, 1))
    operands, names = [term.cross], [f"z{sources}{targets}"]
    for space in (each for each in gone if each.free):
        outer = "".join(letters[parent][1] for parent in space.ancestors() if parent in term.leaves)
        operands.append(known[space.name])
        names.append(f"z{outer}{letters[space][0]}{letters[space][1]}")
    return torch.einsum(f"{','.join(names)}->z{out}", *operands)
