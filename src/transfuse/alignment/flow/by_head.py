"""Plans that keep heads apart: between heads, and between the channels of each pair of heads."""

import torch
from jaxtyping import Float
from torch import Tensor

from transfuse.transport.maps import Matrix, from_plan
from transfuse.transport.solve import Match, Solver, emd


def by_head(solve: Solver, source_heads: int, target_heads: int) -> Solver:
    """Return a solver that matches channels within each pair of heads by `solve`, and heads by an exact plan.

    The cost of a pair of heads is the cost of the plan between their channels. This is the nested problem of Verma &
    Elbayad (2403.00986) with soft channels.
    """

    def solve_by_head(cost: Float[Tensor, "source target"]) -> Match:
        blocks = cost.unflatten(1, (target_heads, -1)).unflatten(0, (source_heads, -1)).transpose(1, 2)
        channels = [[solve(block) for block in row] for row in blocks]
        head_costs = [[match.cost for match in row] for row in channels]
        heads = emd(torch.tensor(head_costs, dtype=torch.float64, device=cost.device))
        assert isinstance(heads.map, Matrix)
        shares = heads.map.backward / source_heads
        plans = torch.stack([torch.stack([match.map.plan().double() for match in row]) for row in channels])
        plan = (shares[..., None, None] * plans / plans.shape[-2]).transpose(1, 2).flatten(2, 3).flatten(0, 1)
        return Match(from_plan(plan), heads.cost)

    return solve_by_head
