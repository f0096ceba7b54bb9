"""Do what the authors' code does otherwise than the paper's mathematics (TF-OT); docs/paper.md lists each difference.

Only `rules="released"` comes here, for parity and comparison.
"""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import ot
import torch
from jaxtyping import Float
from torch import Tensor

from transfuse.alignment.flow import policy as paper_policies
from transfuse.alignment.flow.policy import Strength
from transfuse.config.flow_options import FlowOptions
from transfuse.config.literals import Cost
from transfuse.errors import ConfigError, TransfuseError
from transfuse.network.space import Axis, Group
from transfuse.network.spec import Concatenation, Junction, Norm, Op, Spec, Writer
from transfuse.transport import cost as paper_scales
from transfuse.transport.cost import Moments
from transfuse.transport.maps import Map, Matrix
from transfuse.transport.solve import Match, Solver

EMBEDDINGS, ATTENTION, FFN, NORMS, HEAD = "embeddings", "attention", "ffn", "norms", "head"
FROM_SOURCE = (ATTENTION, FFN, NORMS)  # parts that are left as the source has them


def one_map(found: Match) -> Match:
    """Put n0 P on both sides, as released: off by n0 / n1 in outputs, biases and gains where the sizes differ."""
    assert isinstance(found.map, Matrix)
    return Match(Matrix(found.map.backward, found.map.backward), found.cost)


def between_rows(seen: Moments, normalised: bool, cost: Cost) -> Float[Tensor, "source target"]:
    """Return the Euclidean cost of units with one sample, a class token's, in single precision from the start.

    Many plans cost the same there; rounding decides which of them a solver returns.
    """
    x, y = (values.float() for values in (seen.sum_x, seen.sum_y))
    if normalised:
        x, y = (values / (values.abs() + 1e-9) for values in (x, y))
    distance = torch.cdist(x[:, None], y[:, None])
    return distance.square() if cost == "squared" else distance


def by_mean(cost: Float[Tensor, "source target"]) -> Float[Tensor, "source target"]:
    """Divide by the mean as NumPy takes it: its last digit decides between plans of the same cost."""
    values = cost.cpu().numpy()
    return cost / float(max(values.mean(), np.finfo(values.dtype).tiny))


SCALES = paper_scales.SCALES | {"mean": by_mean}


def sinkhorn(regularization: float) -> Solver:
    """Solve by POT's Sinkhorn with its defaults, and take n0 P of the plan it stopped at, converged or not."""

    def solve(cost: Float[Tensor, "source target"]) -> Match:
        source, target = cost.shape
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a plan that has not converged
            mu, nu = (torch.full((units,), 1 / units, dtype=torch.float64).numpy() for units in (source, target))
            plan = torch.from_numpy(ot.bregman.sinkhorn(mu, nu, cost.float().cpu().numpy(), reg=regularization))
        if not plan.isfinite().all():
            raise TransfuseError(
                f"entropic transport of {source} x {target} units has no finite plan at regularization"
                f" {regularization:.3g}; raise it or use hard plans"
            )
        matrix = (plan * source).float().to(cost.device)
        return Match(Matrix(matrix, matrix), float((plan * cost.double().cpu()).sum()))

    return solve


def identity(skip: Map, branch: Map, skip_strength: Strength, branch_strength: Strength) -> Map:
    """Map unit i to unit i, as far as the smaller width reaches."""
    return Matrix(*(torch.eye(*skip.units, dtype=torch.float64),) * 2)


POLICIES = paper_policies.POLICIES | {"identity": identity}


def widened(spec: Spec, target: Spec) -> set[str]:
    """Name the spaces that a layer writes wider than it reads, in either model, once a map reaches the layer."""
    written = {op.name: op for op in target.linears()}
    return {
        space.name
        for op in spec.linears()
        for space in op.writes.spaces()
        if all(space.free for axis in op.reads for space in axis.spaces())
        and any(each.writes.size > sum(axis.size for axis in each.reads) for each in (op, written[op.name]))
    }


@dataclass(frozen=True)
class Route:
    """Tells where maps are found and where they stop.

    Attributes:
        spec: what the flow goes through.
        withheld: names of spaces whose maps are found but not applied.
        still: names of spaces that no map reaches.
    """

    spec: Spec
    withheld: frozenset[str] = frozenset()
    still: frozenset[str] = frozenset()


def route(options: FlowOptions, spec: Spec) -> Route:
    """Lead the flow around the parts that are kept.

    Behind kept embeddings no map enters the first block, whose first junction passes the branch's map on. A kept
    attention or feed-forward layer passes on the map that it reads. A kept head stops the maps of the last block.
    """
    keep = set[str](options.keep)
    withheld, stopped = _withheld(keep, spec)
    if not keep & {EMBEDDINGS, ATTENTION, FFN} and not stopped:
        return Route(spec, withheld, frozenset())
    still: set[str] = set()  # spaces without a map
    passed: set[str] = set()  # what a kept branch writes
    attended = {space.name for op in spec.linears() if op.part == ATTENTION for space in op.writes.spaces()}
    ops: list[Op] = []
    for op in spec.ops:
        if isinstance(op, Writer) and op.part in keep & {EMBEDDINGS, ATTENTION, FFN}:
            (still if op.part == EMBEDDINGS else passed).update(space.name for space in op.writes.spaces())
        elif not isinstance(op, Junction):
            ops.append(op)
        elif (joined := _joined(op, options.policy, still, passed, stopped, attended)) is None:
            still.add(op.space.name)
        else:
            ops.append(joined)
    fixed = frozenset(still | passed)

    def fix(axis: Axis) -> Axis:
        return axis.replace(lambda space: replace(space, group=Group.FIXED) if space.name in fixed else space)

    return Route(replace(spec, ops=tuple(op.replace(fix) for op in ops)), withheld, frozenset(still))


def _withheld(keep: set[str], spec: Spec) -> tuple[frozenset[str], frozenset[str]]:
    """Name, for a kept head, the spaces whose maps are not applied, and the branch that has none at its junction."""
    junctions = [op for op in spec.ops if type(op) is Junction]
    if HEAD not in keep or not junctions:
        return frozenset(), frozenset()
    last = junctions[-1]
    if FFN not in keep:
        return frozenset({last.branch.name, last.space.name}), frozenset()
    if ATTENTION in keep or len(junctions) < 2:
        return frozenset(), frozenset()
    attention = frozenset({junctions[-2].branch.name})
    return attention, attention


def _joined(
    op: Junction, policy: str, still: set[str], passed: set[str], stopped: frozenset[str], attended: set[str]
) -> Junction | None:
    """Return the junction as the maps that arrive make it; None: no map leaves it."""
    skip, branch = (None if space.name in still else space for space in (op.skip, op.branch))
    if op.branch.name in passed:
        branch = skip
    if op.branch.name in stopped:
        branch = None if policy == "branch" else skip
        skip = branch
    if skip and branch:
        return replace(op, skip=skip, branch=branch)
    if skip is None and policy == "skip" and op.branch.name not in attended:
        return None
    one = skip or branch
    return Concatenation(op.space, one, one, op.part) if one else None


def kept(options: FlowOptions, spec: Spec) -> dict[str, str]:
    """Give, by the name of each tensor that the fused model has from the source alone, the source's tensor that it is.

    The authors' code keeps these parts of model 0, which is the source; and the norm behind attention also in front.
    """
    keep = set(options.keep)
    names = {name: name for part in keep & {ATTENTION, FFN} for name in spec.part(part)}
    return names | dict(_norms(spec)) if NORMS in keep else names


def _norms(spec: Spec) -> Iterator[tuple[str, str]]:
    """Yield the norms of every block, not the one in front of the head, with the source's tensors that they are."""
    norms = [op for op in spec.ops if isinstance(op, Norm) and op.part == NORMS]
    parts = {norm.name: {op.part for op in spec.readers(norm)} for norm in norms}
    for place, norm in enumerate(norms):
        before = parts[norm.name] == {ATTENTION} and place + 1 < len(norms) and parts[norms[place + 1].name] == {FFN}
        if not parts[norm.name] or parts[norm.name] & {ATTENTION, FFN}:
            yield from zip(norm.tensors(), norms[place + before].tensors(), strict=True)


def check_widths(options: FlowOptions, way: Route, spec: Spec, target: Spec) -> None:
    """Raise `ConfigError` where a part is kept that has another shape in the anchor.

    Args:
        spec: the source's declaration, opened; `target` is the anchor's.
    """
    ours, theirs = target.spaces(), spec.spaces()
    left = {*way.withheld, *way.still}
    sizes = [(name, theirs[name].units, ours[name].units) for name in sorted(left) if name in theirs]
    for name in sorted(kept(options, spec)):
        axes = zip(spec.tensors()[name], target.tensors()[name], strict=True)
        sizes += [(name, axis.size, other.size) for axis, other in axes]
    for name, source, anchor in sizes:
        if source != anchor:
            raise ConfigError(
                f"keep {', '.join(options.keep)}: as released, no map is applied to {name}, which has {source} units in"
                f" the source and {anchor} in the anchor; keep nothing else than biases, or choose rules corrected"
            )
