"""The experts that stay, and those whose tokens each of them takes over."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from transfuse.shrinking.experts.layer import ExpertModules
from transfuse.shrinking.experts.routing import OutputProducts, Routing, rows_of


@torch.no_grad()
def least_damage(modules: ExpertModules, routing: Routing, products: OutputProducts, count: int) -> list[int]:
    """Return the experts that are left when, one by one, the one is removed whose removal changes the output least.

    The router sends the tokens of a removed expert to others, and the output is what these write.

    Args:
        modules: those of the small model, whose router chooses as many experts as it will.
        routing: the router's weights for all experts.
        products: those of all experts.
        count: how many stay.
    """
    kept = list(range(len(products.cross[0])))
    while len(kept) > count:
        errors = {}
        for expert in kept:
            others = torch.tensor([other for other in kept if other != expert], device=products.x.device)
            scores, chosen = modules.route(rows_of(routing, others.tolist()), products.x)
            errors[expert] = float(products.error(scores, others[chosen]))
        kept.remove(min(errors, key=errors.__getitem__))
    return kept


@torch.no_grad()
def largest_outputs(modules: ExpertModules, routing: Routing, products: OutputProducts, count: int) -> list[int]:
    """Return the experts whose outputs, times their gates, are largest on average over their tokens (as in REAP).

    Args:
        modules: those of the large model.
    """
    gates = modules.gates(routing, products.x)
    norms = products.square.diagonal(dim1=1, dim2=2).clamp_min(0).sqrt()
    mean = (gates * norms).sum(0) / (gates > 0).sum(0).clamp_min(1)
    return sorted(mean.topk(count).indices.tolist())


@torch.no_grad()
def taken_over(
    before: Float[Tensor, "row expert"], after: Float[Tensor, "row kept"], kept: Sequence[int], most: int
) -> list[list[int]]:
    """Return, for every expert that stays, up to `most` removed ones whose tokens it takes over.

    Args:
        before: the gates of all experts.
        after: the gates of those that stay.
        kept: their numbers.
    """
    gained = (after - before[:, list(kept)]).clamp_min(0)
    removed = [expert for expert in range(before.shape[1]) if expert not in kept]
    taken = before[:, removed].T @ gained
    return [
        [removed[index] for index in column.argsort(descending=True)[:most].tolist() if column[index] > 0]
        for column in taken.T
    ]
