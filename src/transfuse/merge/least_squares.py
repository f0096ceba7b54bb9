"""Layer by layer, from input to output: the linear map from what the fused model sees to what its parents give.

The mean of aligned weights drifts: each layer of it reads a little less of what its parents' layers read, and the error
grows with depth. Here every linear map is fitted by ridge regression from the fused model's own inputs, the layers
before it already fitted, to the weighted mean of the aligned parents' outputs, pulled towards the mean of their
weights; what writes into the residual stream also makes good how far the stream has drifted. Unlabelled samples, no
gradient.
(RegMean, Jin et al., 2212.09849, regresses onto each parent's outputs from that parent's own inputs, for models that
share an initialisation.)
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel

from transfuse.align.evidence import Probe, observe
from transfuse.batch import Batch
from transfuse.errors import DataError
from transfuse.network.space import Axis, Space
from transfuse.network.spec import Junction, LayerScale, Linear, Norm, Spec
from transfuse.transport.cost import ROUNDING

RIDGES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)  # candidates, relative to the inputs' mean square
HELD_OUT = 5  # every fifth batch chooses among them


@dataclass(frozen=True)
class Stage:
    """Linear maps that read the same values, and where the stream shows that their outputs are added to."""

    linears: tuple[Linear, ...]
    stream: tuple[Probe, ...]


@dataclass(frozen=True)
class Fit:
    """How well one linear map was fitted.

    Attributes:
        ridge: relative to the inputs' mean square; None: the mean of the weights stayed.
        gain: the share of the squared error, on held-out samples, that it took away.
    """

    ridge: float | None
    gain: float


def least_squares(
    spec: Spec, fused: PreTrainedModel, parents: Sequence[PreTrainedModel], weights: Sequence[float],
    batches: Sequence[Batch], each: Callable[[Sequence[Stage]], Iterable[Stage]] = lambda stages: stages,
) -> dict[str, Fit]:  # fmt: skip
    """Fit every linear map of `fused` in place.

    Args:
        spec: the declaration as the tensors are stored.
        fused: the mean of the parents; `parents`: all in its basis; `weights` sum to one.
        each: shows progress.

    Returns:
        By the name of the linear map, how well it was fitted.

    Raises:
        DataError: there are fewer than two samples.
    """
    groups = _split(batches)
    if not all(groups):
        raise DataError("least squares needs samples to fit with and others to choose with; give two or more")
    found: dict[str, Fit] = {}
    for stage in each(stages(spec, fused)):
        sums = [_over(stage, fused, parents, weights, group) for group in groups]
        for linear, fit, held in zip(stage.linears, *sums, strict=True):
            found[linear.name] = _fit(linear, fused.get_submodule(linear.name), fit, held)
    return found


def stages(spec: Spec, model: nn.Module) -> list[Stage]:
    """The linear maps in the order of the forward pass, but for those that read pixels or share a matrix."""
    found: list[Stage] = []
    places = {name: values.data_ptr() for name, values in model.state_dict().items()}
    shared = Counter(places.values())
    for op in spec.linears():
        if len(op.reads) != 1 or op.stacked or shared[places[op.matrix]] > 1:
            continue
        last = found[-1].linears[0] if found else None
        stream = tuple(_drifts(spec, op.writes))
        alike = last and (last.reads, last.norm, last.part) == (op.reads, op.norm, op.part)
        if alike and not stream and not found[-1].stream and op.part != "head":  # heads may read other tokens each
            found[-1] = Stage((*found[-1].linears, op), ())
        else:
            found.append(Stage((op,), stream))
    return found


def _drifts(spec: Spec, writes: Axis) -> Iterator[Probe]:
    """Where the stream shows that a branch is added to; nothing where a norm or a scale stands in between."""
    joined = next((op for op in spec.ops if type(op) is Junction and op.branch == writes), None)
    between = (op for op in spec.ops if isinstance(op, Norm | LayerScale))
    if joined and not any(op.space == writes for op in between):
        yield from _shown(spec, joined.skip)


def _shown(spec: Spec, space: Space) -> Iterator[Probe]:
    """A joined space, at what reads it; as the sum of its parts, where nothing does."""
    for op in spec.ops:
        if isinstance(op, Norm) and op.space == space:
            yield Probe(op.name, "input" if spec.readers(op) else "output", space)
            return
    for op in spec.linears():
        if op.norm is None and op.reads == (space,):
            yield Probe(op.name, "input", space)
            return
    for op in spec.ops:
        if isinstance(op, Junction) and op.space == space:
            yield from _shown(spec, op.skip)
            yield from _shown(spec, op.branch)
            return
        if isinstance(op, Linear) and op.writes == space:
            yield Probe(op.name, "output", space)


@dataclass(frozen=True, eq=False)
class Sums:
    """X^T X, X^T T and T^2 of a linear map's inputs, a one appended, and its targets, in float64."""

    inputs: Float[Tensor, "reads reads"]
    cross: Float[Tensor, "reads writes"]
    square: float

    def __add__(self, other: "Sums") -> "Sums":
        return Sums(self.inputs + other.inputs, self.cross + other.cross, self.square + other.square)

    def without_ones(self) -> "Sums":
        """Of a map without a bias."""
        return Sums(self.inputs[:-1, :-1], self.cross[:-1], self.square)

    def solve(self, ridge: float, before: Float[Tensor, "reads writes"]) -> Float[Tensor, "reads writes"]:
        """The map of least squared error, pulled towards `before`."""
        pull = ridge * self.inputs.diagonal().mean()
        return torch.linalg.solve(
            self.inputs + pull * torch.eye(len(self.inputs)).to(self.inputs), self.cross + pull * before
        )

    def error(self, found: Float[Tensor, "reads writes"]) -> float:
        """The squared error of a map."""
        return float((found * (self.inputs @ found)).sum() - 2 * (found * self.cross).sum()) + self.square


def _over(
    stage: Stage, fused: PreTrainedModel, parents: Sequence[PreTrainedModel], weights: Sequence[float],
    batches: Iterable[Batch],
) -> list[Sums]:  # fmt: skip
    """The sums of every linear map of a stage; nothing else is kept of a batch."""
    reads = Probe(stage.linears[0].name, "input", stage.linears[0].reads[0])
    outputs = [Probe(linear.name, "output", linear.writes) for linear in stage.linears]
    found: list[Sums] = []
    for batch in batches:
        seen = observe(fused, [reads, *stage.stream], batch, {})
        x = _rows(seen[reads]).double()
        x = torch.cat([x, x.new_ones(len(x), 1)], 1)
        gram = x.T @ x
        others = [observe(parent, [*outputs, *stage.stream], batch, {}) for parent in parents]
        new = []
        for probe in outputs:
            target = torch.zeros_like(_rows(others[0][probe]))
            for weight, each in zip(weights, others, strict=True):
                for part in (probe, *stage.stream):
                    target += weight * _rows(each[part])
            for part in stage.stream:
                target -= _rows(seen[part])
            new.append(Sums(gram, x.T @ target.double(), float(target.double().square().sum())))
        found = [old + more for old, more in zip(found, new, strict=True)] if found else new
    return found


def _rows(values: Float[Tensor, "*samples unit"]) -> Float[Tensor, "sample unit"]:
    return values.reshape(-1, values.shape[-1])


@torch.no_grad()
def _fit(linear: Linear, module: nn.Module, fit: Sums, held: Sums) -> Fit:
    """Choose the ridge on `held`, then fit to all."""
    tensors = dict(module.named_parameters(recurse=False))
    weight, bias = tensors["weight"], tensors.get("bias")
    before = (weight if linear.transposed else weight.T).double()
    if bias is None:
        fit, held = fit.without_ones(), held.without_ones()
    else:
        before = torch.cat([before, bias.double().unsqueeze(0)])
    errors = {ridge: held.error(fit.solve(ridge, before)) for ridge in RIDGES}
    best, stays = min(errors, key=lambda ridge: errors[ridge]), held.error(before)
    if errors[best] >= stays or stays <= ROUNDING * held.square:  # nothing to gain; or nothing but rounding
        return Fit(None, 0.0)
    found = (fit + held).solve(best, before)
    if bias is not None:
        bias.copy_(found[-1])
        found = found[:-1]
    weight.copy_(found if linear.transposed else found.T)
    return Fit(best, 1 - errors[best] / stays)


def _split(batches: Sequence[Batch]) -> tuple[list[Batch], list[Batch]]:
    """Batches to fit with, and those to choose with; a few large ones are cut first."""
    if len(batches) < HELD_OUT:
        batches = [
            {name: values[start::HELD_OUT] for name, values in batch.items()}
            for batch in batches for start in range(min(HELD_OUT, len(next(iter(batch.values())))))
        ]  # fmt: skip
    return [batch for index, batch in enumerate(batches) if index % HELD_OUT], list(batches[::HELD_OUT])
