"""The paper's options, by name, as the functions that the flow takes (TF-OT, sections 4 and 5, appendix).

`rules="released"` reproduces the authors' code where it differs from the mathematics; docs/paper.md lists
each difference. It exists for parity and comparison; nothing else uses it.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from typing import Literal

from torch import Tensor

from transfuse.activations.hooks import STACK_SEPARATOR, HookPoint
from transfuse.activations.token_filter import TokenFilter, parse_token_filter, prefix_tokens
from transfuse.alignment.flow import released
from transfuse.alignment.flow.by_head import by_head
from transfuse.alignment.flow.flow import Variant
from transfuse.alignment.flow.policy import POLICIES
from transfuse.config.literals import FlowOptions, Plan
from transfuse.network.space import Space
from transfuse.network.spec import Spec, Table, Writer
from transfuse.transport.cost import COSTS, SCALES, TRANSFORMS, Moments, normalise
from transfuse.transport.solve import Match, emd, entropic, entropic_with_support, exact, settled, uniform

# The authors' best for ViT, relative to the largest cost (TF-OT, appendix).
REGULARISATION = {"activations": 0.08, "weights": 0.06}


def variant(
    options: FlowOptions,
    evidence: Literal["activations", "weights"],
    heads: Mapping[str, tuple[int, int]],
    widened: Collection[str] = (),
) -> Variant:
    """The flow's functions for these options.

    Args:
        heads: of every flat attention space, how many heads the source and the anchor have in it.
        widened: names of the spaces that the plan "widening" takes for wider ones, as released.
    """
    as_released = options.rules == "released"
    measure, scale = COSTS[options.cost], (released.SCALES if as_released else SCALES)[options.scale]
    policy = (released.POLICIES if as_released else POLICIES)[options.policy]

    def transform(op: Writer, seen: Moments) -> Moments:
        """Parameters are compared as they are beside activations; rows of weights are normalised once together."""
        if evidence == "weights":
            return seen
        return seen if isinstance(op, Table) else TRANSFORMS[options.transform](seen)

    def cost(seen: Moments) -> Tensor:
        """Of a single row, a class token, normalising leaves only signs: as released, but not by default."""
        shows = evidence == "weights" and (as_released or seen.count > 1)
        if as_released and seen.count == 1 and options.cost != "cosine":
            return scale(released.between_rows(seen, shows, options.cost))
        ground = measure(normalise(seen) if shows else seen)
        return scale(ground.float() if as_released else ground)  # as released, in single precision

    amount = options.regularization or REGULARISATION[evidence]
    entropy = released.sinkhorn if as_released else entropic
    soft = entropic_with_support(options.support) if options.support else entropy(amount)
    soft = soft if as_released else settled(soft)
    hard = emd if as_released else exact

    def solve(space: Space, ground: Tensor) -> Match:
        source, target = ground.shape
        wider = space.name in widened if as_released else target > source
        solver = uniform if options.plan == "uniform" else soft if _is_soft(options.plan, wider) else hard
        if options.heads == "aware" and space.name in heads:
            solver = by_head(solver, *heads[space.name])
        found = solver(ground)
        return released.one_map(found) if as_released else found

    return Variant(transform, cost, solve, policy)


def _is_soft(plan: Plan, wider: bool) -> bool:
    return plan == "soft" or (plan == "widening" and wider)


def selection(
    options: FlowOptions, spec: Spec, seventh: tuple[str, ...] = ("o_proj", "fc1", "fc2")
) -> Callable[[HookPoint], TokenFilter]:
    """Which tokens of each probe are samples. What only the class token's output depends on is judged by it alone.

    Args:
        seventh: as released, layers of the seventh block that are judged by the class token, if tokens are filtered.
    """
    chosen = parse_token_filter(options.tokens, spec.tokens)

    def select(probe: HookPoint) -> TokenFilter:
        alone = probe.prefix_only
        if options.rules == "released":  # hard-wired to the seventh block of the authors' model
            alone = options.tokens != "all" and ".layers.6." in probe.name and probe.name.endswith(seventh)
        return prefix_tokens(spec.tokens) if alone and spec.tokens else chosen

    return select


def ordered(options: FlowOptions, probes: Iterable[HookPoint]) -> list[HookPoint]:
    """The probes to collect. As released, stacked activations come in the reverse order of the stacked weights, and
    what a layer writes may be seen at other tokens than what it reads."""
    if options.rules == "corrected":
        return list(probes)
    return [replace(probe, name=STACK_SEPARATOR.join(reversed(probe.parts())), read=None) for probe in probes]
