"""Errors of a layer of experts for any routing, from products of what the experts write, row by row.

The squared error of a sum of outputs by their gates is a quadratic function of the gates. Its coefficients are computed
once, and then every choice of experts and every router can be compared without running an expert again.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from transfuse.shrinking.experts.layer import Expert, ExpertModules
from transfuse.shrinking.experts.rows import Rows

STEPS = 200  # of the router, at most
CHECK_EVERY = 10
PATIENCE = 3  # checks without improvement on held-out rows after which the router is not moved further
RATE = 0.02  # of the router's weights, relative to their root mean square

Routing = dict[str, Tensor]


@dataclass(frozen=True, eq=False)
class OutputProducts:
    """Products of what experts write at each row.

    Attributes:
        x: the input.
        square: of every pair of experts.
        cross: of every expert and what the layer should write.
        target_square: of what the layer should write.
    """

    x: Float[Tensor, "row inputs"]
    square: Float[Tensor, "row expert expert"]
    cross: Float[Tensor, "row expert"]
    target_square: Float[Tensor, " row"]

    @classmethod
    @torch.no_grad()
    def of(cls, modules: ExpertModules, experts: Sequence[Expert], rows: Rows) -> "OutputProducts":
        """Return the products of some experts."""
        square, cross = [], []
        for part, outputs in modules.all_outputs(experts, rows.x):
            square.append(outputs @ outputs.transpose(1, 2))
            cross.append((outputs @ rows.target[part].unsqueeze(2)).squeeze(2))
        return cls(rows.x, torch.cat(square), torch.cat(cross), rows.target.square().sum(1))

    def error(self, scores: Float[Tensor, "row choice"], chosen: Int[Tensor, "row choice"]) -> Tensor:
        """Return the mean squared error of a layer with these gates.

        Args:
            scores: the gates of the chosen experts.
            chosen: their numbers.
        """
        row = torch.arange(len(chosen), device=chosen.device).unsqueeze(1)
        square = self.square[row.unsqueeze(2), chosen.unsqueeze(2), chosen.unsqueeze(1)]
        explained = torch.einsum("nk,nkl,nl->n", scores, square, scores) - 2 * (scores * self.cross[row, chosen]).sum(1)
        return (explained + self.target_square).mean()


def rows_of(routing: Routing, kept: Sequence[int]) -> Routing:
    """Return the weights of a router of some experts."""
    return {name: values[list(kept)] for name, values in routing.items()}


def fitted_routing(
    modules: ExpertModules, routing: Routing, train: OutputProducts, held_out: OutputProducts
) -> Routing:
    """Return the weights of a router whose gates give the least error, by descent from given ones.

    Those with the least error on held-out rows are returned.
    """
    free = {name: values.clone().requires_grad_() for name, values in routing.items()}
    sizes = {name: float(values.square().mean().sqrt()) for name, values in routing.items()}
    groups = [{"params": [values], "lr": RATE * max(sizes[name], 1e-3)} for name, values in free.items()]
    optimizer = torch.optim.Adam(groups, betas=(0.9, 0.99))
    best, least = routing, float(held_out.error(*modules.route(routing, held_out.x)))
    stalled = 0
    for step in range(1, STEPS + 1):
        for group in optimizer.param_groups:
            group["lr"] *= 1 - 1 / STEPS
        optimizer.zero_grad()
        train.error(*modules.route(free, train.x)).backward()
        optimizer.step()
        if step % CHECK_EVERY:
            continue
        with torch.no_grad():
            error = float(held_out.error(*modules.route(free, held_out.x)))
        stalled = stalled + 1 if error >= least else 0
        if error < least:
            best, least = {name: values.detach().clone() for name, values in free.items()}, error
        if stalled >= PATIENCE:
            break
    return best
