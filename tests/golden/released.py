"""The authors' released code, with its errors, made of the package's own parts, for the tests of parity.

docs/paper.md lists each difference from the paper's method. Options that their code does not have (`heads`, `values`,
`support`, the uniform plan) have no effect here.
"""

import warnings
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Literal

import numpy as np
import ot
import torch
from jaxtyping import Float
from torch import Tensor

from golden.junctions import released_norms
from golden.route import Route, check_widths, lead_around, tensors_of_source, widened
from transfuse.activations.hook_points import STACK_SEPARATOR, HookPoint, output_points
from transfuse.activations.hooks import collect_moments
from transfuse.activations.token_filter import TokenFilter, parse_token_filter, prefix_tokens
from transfuse.alignment.flow.flow import Variant, flow, from_activations, from_weights
from transfuse.alignment.flow.method import keep_anchor_parts
from transfuse.alignment.flow.options import REGULARIZATION, variant
from transfuse.alignment.flow.policy import WEIGHTED, ActivationNorms
from transfuse.alignment.flow.stack import stack, unstack
from transfuse.alignment.interface import AlignContext, Alignment
from transfuse.alignment.spec_for import flow_spec
from transfuse.alignment.transform import transform_all
from transfuse.base.lazy import Lazy, Tensors
from transfuse.config.flow_options import FlowOptions
from transfuse.config.literals import Cost
from transfuse.network.model import Network
from transfuse.network.space import Space
from transfuse.network.spec import Spec
from transfuse.transport.cost import COSTS, SCALES, Moments, normalize
from transfuse.transport.maps import Map, Matrix
from transfuse.transport.solve import Match, Solver, emd

FROM_SOURCE = ("attention", "ffn", "norms")  # parts that are kept as the source has them


def align_released(anchor: Network, source: Network, context: AlignContext) -> Alignment:
    """Do what `align_flow` does, as the authors' code does it."""
    options, kind = context.flow, context.match_on
    assert kind != "both"
    spec, target = (flow_spec(each.spec, options) for each in (source, anchor))
    route = lead_around(options, spec)
    check_widths(options, route, source.spec, anchor.spec)
    source_tensors = stack(spec, source.tensors)
    evidence = from_weights(spec, source_tensors, stack(target, anchor.tensors))
    if kind == "activations":
        evidence = from_activations(_activations(anchor, source, spec, context), evidence)
    chosen = released_variant(options, kind, widened(route.spec, target))
    matches = flow(route.spec, evidence, chosen, _norms(anchor, target, context))
    carried = unstack(transform_all(spec, source_tensors, _applied(matches, route)))
    kept_anchor = _keep(options, anchor, source, carried)
    return Alignment(spec, kept_anchor, source.materialize(carried), matches)


def _activations(anchor: Network, source: Network, spec: Spec, context: AlignContext) -> Mapping[HookPoint, Moments]:
    """Return the moments of what every layer writes; stacked layers in the reverse order of their weights."""
    points = [
        replace(point, name=STACK_SEPARATOR.join(reversed(point.layer_names())), projected_from=None)
        for point in output_points(spec)
    ]
    select = released_filters(context.flow, spec)
    return collect_moments(source.model, anchor.model, points, context.batches, select)


def _norms(anchor: Network, spec: Spec, context: AlignContext) -> dict[str, ActivationNorms]:
    """Weigh the attention output of the seventh block by all tokens, though the class token alone matches it."""
    options = context.flow
    if options.policy not in WEIGHTED:
        return {}
    select = released_filters(options, spec, class_only=("fc2",))
    return released_norms(spec, anchor.model, context.batches, select, options.transform)


def _applied(matches: Mapping[str, Match], route: Route) -> dict[str, Map]:
    return {name: match.map for name, match in matches.items() if name not in route.withheld}


def _keep(options: FlowOptions, anchor: Network, source: Network, carried: Lazy) -> Tensors:
    """Put the kept tensors into the carried ones. Return the anchor's, with the source's where those are kept."""
    from_anchor = tuple(part for part in options.keep if part not in FROM_SOURCE)
    keep_anchor_parts(options.model_copy(update={"keep": from_anchor}), anchor, source, carried)
    kept = {name: source.tensors[origin] for name, origin in tensors_of_source(options, source.spec).items()}
    for name in kept:
        carried.replace(name, kept)
    return {**anchor.tensors, **kept}


def released_filters(
    options: FlowOptions, spec: Spec, class_only: tuple[str, ...] = ("o_proj", "fc1", "fc2")
) -> Callable[[HookPoint], TokenFilter]:
    """Return the function that tells which tokens of a hook point are samples.

    Args:
        class_only: layers whose only sample is the class token in the seventh block, the last of the authors' model,
            if tokens are filtered.
    """
    chosen = parse_token_filter(options.tokens, spec.tokens)

    def select(point: HookPoint) -> TokenFilter:
        alone = options.tokens != "all" and ".layers.6." in point.name and point.name.endswith(class_only)
        return prefix_tokens(spec.tokens) if alone and spec.tokens else chosen

    return select


def released_variant(
    options: FlowOptions, evidence: Literal["activations", "weights"], widened: Collection[str]
) -> Variant:
    """Return the flow's functions for these options: costs in single precision, plans by POT.

    Args:
        widened: names of the spaces whose plan is soft under the plan "widening".
    """
    scale = {**SCALES, "mean": by_mean}[options.scale]
    soft = pot_sinkhorn(options.regularization or REGULARIZATION[evidence])

    def cost(seen: Moments) -> Float[Tensor, "source target"]:
        normalized = evidence == "weights"
        if seen.count == 1 and options.cost != "cosine":
            return scale(between_rows(seen, normalized, options.cost))
        return scale(COSTS[options.cost](normalize(seen) if normalized else seen).float())

    def solve(space: Space, ground: Float[Tensor, "source target"]) -> Match:
        is_soft = options.plan == "soft" or (options.plan == "widening" and space.name in widened)
        return one_map(soft(ground) if is_soft else emd(ground))

    paper = variant(options, evidence, heads={})
    policy = identity if options.policy == "identity" else paper.policy
    return Variant(paper.transform, cost, solve, policy)


def one_map(found: Match) -> Match:
    """Put n0 P on both sides: off by n0 / n1 in outputs, biases and gains where the sizes differ."""
    assert isinstance(found.map, Matrix)
    return Match(Matrix(found.map.backward, found.map.backward), found.cost)


def between_rows(seen: Moments, normalized: bool, cost: Cost) -> Float[Tensor, "source target"]:
    """Return the Euclidean cost of units with one sample, a class token's, in single precision from the start.

    Many plans cost the same there; rounding decides which of them a solver returns.
    """
    x, y = (values.float() for values in (seen.sum_x, seen.sum_y))
    if normalized:
        x, y = (values / (values.abs() + 1e-9) for values in (x, y))
    distance = torch.cdist(x[:, None], y[:, None])
    return distance.square() if cost == "squared" else distance


def by_mean(cost: Float[Tensor, "source target"]) -> Float[Tensor, "source target"]:
    """Divide by the mean as NumPy takes it: its last digit decides between plans of the same cost."""
    values = cost.cpu().numpy()
    return cost / float(max(values.mean(), np.finfo(values.dtype).tiny))


def pot_sinkhorn(regularization: float) -> Solver:
    """Solve by POT's Sinkhorn with its defaults, and take n0 P of the plan it stopped at, converged or not."""

    def solve(cost: Float[Tensor, "source target"]) -> Match:
        source, target = cost.shape
        mu, nu = (torch.full((units,), 1 / units, dtype=torch.float64).numpy() for units in (source, target))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a plan that has not converged
            plan = torch.from_numpy(ot.bregman.sinkhorn(mu, nu, cost.float().cpu().numpy(), reg=regularization))
        if not plan.isfinite().all():
            raise ValueError(f"entropic transport has no finite plan at regularization {regularization:.3g}")
        matrix = (plan * source).float().to(cost.device)
        return Match(Matrix(matrix, matrix), float((plan * cost.double().cpu()).sum()))

    return solve


def identity(skip: Map, branch: Map, skip_strength: ActivationNorms, branch_strength: ActivationNorms) -> Map:
    """Map unit i to unit i, as far as the smaller width reaches."""
    return Matrix(*(torch.eye(*skip.units, dtype=torch.float64),) * 2)
