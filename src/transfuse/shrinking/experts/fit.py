"""One layer of fewer experts: which stay, what they compute, and how the router chooses among them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from transfuse.shrinking.experts.choice import largest_outputs, least_damage, taken_over
from transfuse.shrinking.experts.layer import Expert, ExpertModules
from transfuse.shrinking.experts.refit import Routed, refitted
from transfuse.shrinking.experts.routing import OutputProducts, Routing, fitted_routing, rows_of
from transfuse.shrinking.experts.rows import Rows

CHOICE_ROWS = 4096  # that experts are chosen by
ROUTER_ROWS = 16384  # that the router is fitted to
MAX_CANDIDATES = 4096  # hidden units that an expert's are chosen from
MOST_OTHERS = 3  # experts whose units another may take
NEGLIGIBLE = 1e-10  # relative error that is rounding


@dataclass(frozen=True, eq=False)
class LayerFit:
    """The experts of a small layer.

    Attributes:
        experts: their weights.
        routing: the weights of the router.
        kept: the experts of the large layer that they are made from.
        error: the squared error of the output on held-out rows, relative to what it should be.
    """

    experts: Sequence[Expert]
    routing: Routing
    kept: Sequence[int]
    error: float


FitFn = Callable[[ExpertModules, ExpertModules, int, Rows, Rows], LayerFit]
"""Makes a small layer; arguments are those of `fit_experts`."""


def fit_experts(large: ExpertModules, small: ExpertModules, count: int, train: Rows, held_out: Rows) -> LayerFit:
    """Return the experts and the router of a small layer.

    Experts are chosen in two ways, and fitted, or not; what gives the least error on held-out rows is taken, and fitted
    once more.

    Args:
        large, small: the modules of both models.
        count: the number of experts of the small layer.
        train, held_out: rows to fit to, and rows that decide.
    """
    experts, routing = large.read(), large.routing()
    products = OutputProducts.of(small, experts, train.first(CHOICE_ROWS))
    choices = {
        tuple(least_damage(small, routing, products, count)),
        tuple(largest_outputs(large, routing, products, count)),
    }
    fits = []
    for kept in sorted(choices):
        start = LayerFit([experts[index] for index in kept], rows_of(routing, kept), kept, 0.0)
        start = replace(start, error=_routed(small, start, held_out).error())
        if start.error < NEGLIGIBLE:
            return start
        gates = large.gates(routing, train.x), small.gates(start.routing, train.x)
        most = max(0, min(MOST_OTHERS, MAX_CANDIDATES // len(experts[0].down) - 1))
        others = [[experts[index] for index in some] for some in taken_over(*gates, kept, most)]
        fits += [start, *_next_fits(small, start, others, train, held_out)]
    best = min(fits, key=lambda fit: fit.error)
    return min([best, *_next_fits(small, best, [[]] * count, train, held_out)], key=lambda fit: fit.error)


def _next_fits(
    small: ExpertModules, start: LayerFit, others: Sequence[Sequence[Expert]], train: Rows, held_out: Rows
) -> list[LayerFit]:
    """Return the layer with fitted experts, and then with a fitted router too."""
    parts = _routed(small, start, train), _routed(small, start, held_out)
    experts = refitted(small, start.experts, others, parts)
    few = train.first(ROUTER_ROWS), held_out.first(ROUTER_ROWS)
    products = (OutputProducts.of(small, experts, rows) for rows in few)
    routed = replace(start, experts=experts, routing=fitted_routing(small, start.routing, *products))
    return [
        replace(start, experts=experts, error=parts[1].error()),
        replace(routed, error=_routed(small, routed, held_out).error()),
    ]


@torch.no_grad()
def _routed(small: ExpertModules, fit: LayerFit, rows: Rows) -> Routed:
    gates = small.gates(fit.routing, rows.x)
    return Routed(rows, gates, small.mixture(fit.experts, gates, rows.x))
