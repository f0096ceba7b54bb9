"""Plans between nested units: heads to heads, and channels to channels inside each pair."""

import torch
from jaxtyping import Float
from torch import Tensor

from transfuse.transport.maps import Matrix, from_plan
from transfuse.transport.solve import Match, Solver, emd


def by_head(solve: Solver, source_heads: int, target_heads: int) -> Solver:
    """A solver that keeps heads apart: channels by `solve` inside every pair of heads, heads by an exact plan.

    The cost of pairing two heads is that of their channels' plan (the nested problem of Verma & Elbayad, 2403.00986,
    with soft channels).
    """

    def nested(cost: Float[Tensor, "source target"]) -> Match:
        blocks = cost.unflatten(1, (target_heads, -1)).unflatten(0, (source_heads, -1)).transpose(1, 2)
        inner = [[solve(block) for block in row] for row in blocks]
        costs = [[match.cost for match in row] for row in inner]
        heads = emd(torch.tensor(costs, dtype=torch.float64, device=cost.device))
        assert isinstance(heads.map, Matrix)
        shares = heads.map.backward / source_heads
        plans = torch.stack([torch.stack([match.map.plan().double() for match in row]) for row in inner])
        plan = (shares[..., None, None] * plans / plans.shape[-2]).transpose(1, 2).flatten(2, 3).flatten(0, 1)
        return Match(from_plan(plan), heads.cost)

    return nested
