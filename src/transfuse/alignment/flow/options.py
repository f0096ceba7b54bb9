"""Turn the names of the paper's options into the functions that the flow takes (TF-OT, sections 4 and 5, appendix)."""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from transfuse.activations.hook_points import HookPoint
from transfuse.activations.token_filter import TokenFilter, layout_of_batches, parse_token_filter, prefix_tokens
from transfuse.alignment.flow.by_head import by_head
from transfuse.alignment.flow.flow import Variant
from transfuse.alignment.flow.policy import POLICIES
from transfuse.base.batch import Batch
from transfuse.config.flow_options import FlowOptions
from transfuse.network.model import Network
from transfuse.network.operations import Table, Writer
from transfuse.network.space import Space
from transfuse.transport.cost import COSTS, SCALES, TRANSFORMS, Moments, normalize
from transfuse.transport.solve import Match, Solver, entropic, entropic_with_support, exact, identity_on_ties, uniform

# The authors' best for ViT, relative to the largest cost (TF-OT, appendix).
REGULARIZATION = {"activations": 0.08, "weights": 0.06}


def variant(
    options: FlowOptions, evidence: Literal["activations", "weights"], heads: Mapping[str, tuple[int, int]]
) -> Variant:
    """Return the flow's functions for these options.

    Args:
        heads: the number of heads in the source and in the anchor, by the name of each flat attention space.
    """
    measure, scale = COSTS[options.cost], SCALES[options.scale]
    regularization = options.regularization or REGULARIZATION[evidence]
    soft = identity_on_ties(entropic_with_support(options.support) if options.support else entropic(regularization))

    def transform(op: Writer, seen: Moments) -> Moments:
        """Transform samples of activations. Parameters beside them stay as they are, and so do rows of weights."""
        if evidence == "weights" or isinstance(op, Table):
            return seen
        return TRANSFORMS[options.transform](seen)

    def cost(seen: Moments) -> Float[Tensor, "source target"]:
        """Normalize rows of weights first, unless there is only one (a class token): nothing but signs would remain."""
        normalized = evidence == "weights" and seen.count > 1
        return scale(measure(normalize(seen) if normalized else seen))

    def solver(wider: bool) -> Solver:
        if options.plan == "uniform":
            return uniform
        return soft if options.plan == "soft" or (options.plan == "widening" and wider) else exact

    def solve(space: Space, ground: Float[Tensor, "source target"]) -> Match:
        source, target = ground.shape
        chosen = solver(wider=target > source)
        if options.heads == "aware" and space.name in heads:
            chosen = by_head(chosen, *heads[space.name])
        return chosen(ground)

    return Variant(transform, cost, solve, POLICIES[options.policy])


def token_filters(
    options: FlowOptions, network: Network, batches: Sequence[Batch]
) -> Callable[[HookPoint], TokenFilter]:
    """Return the function that tells which tokens of a hook point are samples.

    In the last block of a classifier, where only the class token reaches the output, it is the only sample.

    Args:
        batches: the samples, whose images may have another size than the network's configuration.
    """
    layout = layout_of_batches(network.spec.tokens, network.model.config, batches)
    chosen = parse_token_filter(options.tokens, layout)

    def select(point: HookPoint) -> TokenFilter:
        return prefix_tokens(layout) if point.prefix_only and layout else chosen

    return select
