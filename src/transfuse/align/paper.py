"""The paper's options, by name, as the functions that the flow takes (TF-OT, sections 4 and 5, appendix).

`rules="released"` reproduces the authors' code where it differs from the mathematics; docs/paper.md lists
each difference. It exists for parity and comparison; nothing else uses it.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Literal

from torch import Tensor

from transfuse.align.evidence import Probe
from transfuse.align.flow import Variant
from transfuse.align.policy import POLICIES
from transfuse.align.stack import MARK
from transfuse.align.tokens import Select, parse, prefix
from transfuse.choices import Paper, Plan
from transfuse.network.space import Space
from transfuse.network.spec import Junction, Spec, Table, Writer
from transfuse.transport.cost import COSTS, SCALES, TRANSFORMS, Moments, normalise
from transfuse.transport.maps import Matrix
from transfuse.transport.nested import by_head
from transfuse.transport.solve import Match, Solver, entropic, exact, simplex, spread_over, uniform

# The authors' best for ViT, relative to the largest cost (TF-OT, appendix).
REGULARISATION = {"activations": 0.08, "weights": 0.06}


def variant(
    options: Paper, evidence: Literal["activations", "weights"], heads: Mapping[str, tuple[int, int]]
) -> Variant:
    """The flow's functions for these options.

    Args:
        heads: of every flat attention space, how many heads the source and the anchor have in it.
    """
    measure, scale = COSTS[options.cost], SCALES[options.scale]
    released = options.rules == "released"

    def transform(op: Writer, seen: Moments) -> Moments:
        """Parameters are compared as they are beside activations; rows of weights are normalised once together."""
        if evidence == "weights":
            return seen
        return seen if isinstance(op, Table) else TRANSFORMS[options.transform](seen)

    def cost(seen: Moments) -> Tensor:
        """Of a single row, a class token, normalising leaves only signs: as released, but not by default."""
        shows = evidence == "weights" and (released or seen.count > 1)
        ground = measure(normalise(seen) if shows else seen)
        return scale(ground.float() if released else ground)  # as released, in single precision

    soft = (
        spread_over(options.support) if options.support
        else entropic(options.regularization or REGULARISATION[evidence])
    )  # fmt: skip

    def solve(space: Space, ground: Tensor) -> Match:
        solver = _solver(options.plan, soft, ground, simplex if released else exact)
        if options.heads == "aware" and space.name in heads:
            solver = by_head(solver, *heads[space.name])
        found = solver(ground)
        return _one_map(found) if released else found

    return Variant(transform, cost, solve, POLICIES[options.policy])


def _solver(plan: Plan, soft: Solver, cost: Tensor, hard: Solver) -> Solver:
    source, target = cost.shape
    if plan == "uniform":
        return uniform
    return soft if plan == "soft" or (plan == "widening" and target > source) else hard


def _one_map(found: Match) -> Match:
    """n0 P on both sides, as released: off by n0 / n1 in outputs, biases and gains where the sizes differ."""
    assert isinstance(found.map, Matrix)
    return Match(Matrix(found.map.backward, found.map.backward), found.cost)


def selection(options: Paper, spec: Spec) -> Callable[[Probe], Select]:
    """Which tokens of each probe are samples. What only the class token's output depends on is judged by it alone."""
    chosen = parse(options.tokens, spec.tokens)

    def select(probe: Probe) -> Select:
        alone = probe.prefix_only
        if options.rules == "released":  # hard-wired to the seventh block of the authors' model
            alone = ".layers.6." in probe.name and probe.name.endswith(("o_proj", "fc1", "fc2"))
        return prefix(spec.tokens) if alone and spec.tokens else chosen

    return select


def ordered(options: Paper, probes: Iterable[Probe]) -> list[Probe]:
    """The probes to collect. As released, stacked activations come in the reverse order of the stacked weights, and
    what a layer writes may be seen at other tokens than what it reads."""
    if options.rules == "corrected":
        return list(probes)
    return [replace(probe, name=MARK.join(reversed(probe.parts())), read=None) for probe in probes]


def withheld(options: Paper, spec: Spec) -> set[str]:
    """Spaces whose maps are found but not applied: as released, keeping the head stops the last block's maps too."""
    if options.rules == "corrected" or "head" not in options.keep:
        return set()
    last = [op for op in spec.ops if isinstance(op, Junction)][-1]
    return {last.branch.name, last.space.name}
