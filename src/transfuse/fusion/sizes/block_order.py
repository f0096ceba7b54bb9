"""The places of the blocks of a model among a larger number of blocks, in order."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from transformers import PreTrainedConfig

from transfuse.network.sizes import block_settings

MARGIN = 1e-6  # by which a later place has to be better: blocks that do nothing leave the stream as it is


def evenly_spaced(own: int, wanted: int) -> Float[Tensor, "own place"]:
    """Return similarities that are largest where blocks are spaced evenly, with the first one first."""
    even = torch.tensor([index * wanted // own for index in range(own)], dtype=torch.float64)
    return -(torch.arange(wanted) - even.unsqueeze(1)).square()


def same_kind(source: PreTrainedConfig, anchor: PreTrainedConfig, own: int, wanted: int) -> Bool[Tensor, "own place"]:
    """Return which blocks have equal settings in two configurations, such as the kind of attention of each block."""
    same = torch.ones(own, wanted, dtype=torch.bool)
    mine, others = block_settings(source, own), block_settings(anchor, wanted)
    for name in mine.keys() & others.keys():
        same &= torch.tensor([[one == other for other in others[name]] for one in mine[name]])
    return same


def has_in_order(allowed: Bool[Tensor, "own place"], blocks: Sequence[int]) -> bool:
    """Return whether some of these blocks may take all places, in order."""
    place = 0
    for block in blocks:
        if place < allowed.shape[1] and allowed[block, place]:
            place += 1
    return place == allowed.shape[1]


def has_places(allowed: Bool[Tensor, "own place"]) -> bool:
    """Return whether all blocks have places in order, the first block the first place."""
    return bool(allowed[0, 0]) and has_in_order(allowed.T, range(allowed.shape[1]))


def best_places(similarity: Float[Tensor, "own place"], allowed: Bool[Tensor, "own place"] | None = None) -> list[int]:
    """Return increasing places with the largest sum of similarities. The first block comes first.

    If sums are equal, the earliest places are returned. There must be places that are allowed (see `has_places`).
    """
    own, count = similarity.shape
    if allowed is not None:
        similarity = similarity.masked_fill(~allowed, -torch.inf)
    best = torch.full((own, count), -torch.inf, dtype=similarity.dtype)
    previous = torch.zeros(own, count, dtype=torch.long)
    best[0, 0] = similarity[0, 0]
    for block in range(1, own):
        for place in range(block, count - (own - 1 - block)):
            earlier = _first_largest(best[block - 1, :place])
            best[block, place] = best[block - 1, earlier] + similarity[block, place]
            previous[block, place] = earlier
    places = [_first_largest(best[-1])]
    assert best[-1, places[0]] > -torch.inf
    for block in range(own - 1, 0, -1):
        places.insert(0, int(previous[block, places[0]]))
    assert all(one < other for one, other in pairwise(places))
    return places


def _first_largest(values: Float[Tensor, " place"]) -> int:
    """Return the first place whose value no later one exceeds clearly."""
    first = 0
    for place in range(1, len(values)):
        if values[place] > values[first] + MARGIN:
            first = place
    return first
