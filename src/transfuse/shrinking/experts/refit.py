"""The hidden units of the experts that stay, and what these write, by least squares weighted by the gates."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from transfuse.merging.fitting.gram import GramMatrix, accumulate, bias_index, gram_matrix
from transfuse.merging.fitting.kept_units import chosen_units
from transfuse.shrinking.experts.layer import CHUNK, Expert, ExpertModules, side_by_side
from transfuse.shrinking.experts.rows import Rows

RIDGES = (1e-8, 1e-6, 1e-4, 1e-3, 1e-2, 1e-1)  # penalties of changes, relative to the mean square of the hidden units
MIN_ROWS = 16  # of an expert, fewer than which change nothing


@dataclass(frozen=True, eq=False)
class Routed:
    """Rows with the gates of the experts that stay, and the sum of what these write."""

    rows: Rows
    gates: Float[Tensor, "row kept"]
    total: Float[Tensor, "row outputs"]

    def error(self) -> float:
        """Return the squared error of the output, relative to what it should be."""
        return float((self.total - self.rows.target).square().sum() / self.rows.target.square().sum())


@torch.no_grad()
def refitted(
    modules: ExpertModules, experts: Sequence[Expert], others: Sequence[Sequence[Expert]], parts: tuple[Routed, Routed]
) -> list[Expert]:
    """Return experts that write together what the layer should write, fitted one after the other.

    Each has as many hidden units as before: its own, or those among its own and those of other experts that explain
    best what the experts beside it leave to be written. What gives less error on held-out rows is taken, and an expert
    stays as it is if neither does.

    Args:
        others: for each expert, the ones whose units it may take.
        parts: rows to fit to, and held-out ones. Their totals are updated in place.
    """
    result = list(experts)
    for index, expert in enumerate(experts):
        pool = side_by_side([expert, *others[index]])
        own = len(expert.down)
        moments = [_moments(modules, expert, pool, index, part) for part in parts]
        if moments[0] is None or moments[1] is None:
            continue
        changed = _best(expert, pool, own, moments[0], moments[1])
        if changed is None:
            continue
        for part in parts:
            rows = part.gates[:, index].nonzero().flatten()
            difference = modules.output(changed, part.rows.x[rows]) - modules.output(expert, part.rows.x[rows])
            part.total.index_add_(0, rows, part.gates[rows, index].unsqueeze(1) * difference)
        result[index] = changed
    return result


def _moments(modules: ExpertModules, expert: Expert, pool: Expert, index: int, part: Routed) -> GramMatrix | None:
    """Return the moments of the hidden units of a pool, and of what an expert is left to write, by its gates."""
    rows = part.gates[:, index].nonzero().flatten()
    if len(rows) < MIN_ROWS:
        return None
    moments: GramMatrix | None = None
    for chunk in rows.split(CHUNK):
        gates, x = part.gates[chunk, index].unsqueeze(1), part.rows.x[chunk]
        wanted = (part.rows.target[chunk] - part.total[chunk]) / gates + modules.output(expert, x)
        new = gram_matrix(modules.hidden(pool, x).double(), [wanted.double()], gates.flatten().double().square())
        moments = accumulate(moments, new)
    assert moments is not None
    return moments if expert.bias is not None else moments.without_bias()


def _best(expert: Expert, pool: Expert, own: int, train: GramMatrix, held_out: GramMatrix) -> Expert | None:
    """Return the expert with the least error on held-out rows; None: as it is."""
    prior = torch.cat([expert.down, torch.zeros_like(pool.down[own:])])
    choices: list[Int[Tensor, " chosen"]] = [torch.arange(own)]
    if len(pool.down) > own:
        units = torch.arange(len(pool.down)).unsqueeze(1)
        choices.append(chosen_units(train, units, own, with_bias=expert.bias is not None))
    best: Expert | None = None
    least = held_out.select_inputs(_columns(torch.arange(own), expert, held_out)).error(_weights(expert, prior[:own]))
    for index in choices:
        columns = _columns(index, expert, train)
        few, few_held_out = train.select_inputs(columns), held_out.select_inputs(columns)
        before = _weights(expert, prior[index])
        for ridge in RIDGES:
            weights = few.solve(ridge, before)
            error = few_held_out.error(weights)
            if error < least:
                least = error
                bias = None if expert.bias is None else weights[-1]
                best = pool.units(index).writing(weights[: len(index)], bias)
    return best


def _columns(index: Int[Tensor, " chosen"], expert: Expert, moments: GramMatrix) -> Int[Tensor, " column"]:
    """Return the inputs of the moments that belong to some units, and to the bias."""
    return torch.cat([index, bias_index(expert.bias is not None, len(moments.inputs) - 1)])


def _weights(expert: Expert, down: Float[Tensor, "unit outputs"]) -> Float[Tensor, "input outputs"]:
    """Return what units write, and the bias of an expert, in double precision."""
    bias = [] if expert.bias is None else [expert.bias.unsqueeze(0)]
    return torch.cat([down, *bias]).double()
