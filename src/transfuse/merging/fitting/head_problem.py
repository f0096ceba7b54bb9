"""The convex problem of fitting an output head: its samples, its loss, and the solver."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, linear

from transfuse.base.batch import grouped_mean
from transfuse.network.operations import Linear, Norm

ITERATIONS = 20  # of L-BFGS for each penalty, starting from the solution of the previous one
# Scores that a CPU computes at once. Their gradients stay in its cache, which is 2.7 times faster.
CACHED_SCORES = 2**18


@dataclass(frozen=True)
class OutputHead:
    """The linear map whose outputs are a model's scores.

    Attributes:
        norm: the norm in front of it, if the norm is fitted because the matrix is shared.
    """

    linear: Linear
    norm: Norm | None

    @property
    def name(self) -> str:
        """Name of the module that is fitted."""
        return self.norm.name if self.norm else self.linear.name


@dataclass(frozen=True, eq=False)
class HeadSamples:
    """Data of the regression, one row per answer.

    Attributes:
        inputs: inputs of the fused model's head.
        targets: the parents' mean probabilities.
        sample: index of the sample that each row belongs to.
    """

    inputs: Float[Tensor, "row reads"]
    targets: Float[Tensor, "row cls"]
    sample: Int[Tensor, " row"]

    def slices(self) -> Iterator[tuple[Float[Tensor, "part reads"], Float[Tensor, "part cls"]]]:
        """Yield the inputs and targets in slices, or all at once on a device other than a CPU."""
        count, classes = self.targets.shape
        rows = max(CACHED_SCORES // classes, self.inputs.shape[1]) if self.inputs.device.type == "cpu" else count
        yield from zip(self.inputs.split(rows), self.targets.split(rows), strict=True)

    def losses(self, scores: Float[Tensor, "row cls"]) -> Float[Tensor, " sample"]:
        """Return the mean cross-entropy of every sample, in nats."""
        losses = cross_entropy(scores, self.targets, reduction="none").double()
        return grouped_mean(self.sample, losses, int(self.sample.max()) + 1)[self.sample.unique()]


class HeadProblem:
    """Penalized cross-entropy as a function of changes to the head's weights."""

    def __init__(self, head: OutputHead, model: nn.Module) -> None:
        self.head = head
        self.head_weights = dict(model.get_submodule(head.linear.name).named_parameters())
        self.norm_weights = dict(model.get_submodule(head.norm.name).named_parameters()) if head.norm else {}
        matrix = self.head_weights["weight"].detach()
        self.matrix = (matrix.T if head.linear.transposed else matrix).float()
        self.bias = self.head_weights["bias"].detach().float() if "bias" in self.head_weights else None
        classes, reads = self.matrix.shape
        zeros = self.matrix.new_zeros
        self.changes = {"matrix": zeros(self.matrix.shape)} if head.norm is None else {"gain": zeros(reads)}
        if head.norm and head.norm.bias:
            self.changes["shift"] = zeros(reads)
        if self.bias is not None:
            self.changes["bias"] = zeros(classes)

    def scores(self, inputs: Float[Tensor, "row reads"]) -> Float[Tensor, "row cls"]:
        """Return the scores for these inputs with the current changes."""
        zero = inputs.new_zeros(())
        bias = None if self.bias is None else self.bias + self.changes["bias"]
        changed_inputs = inputs * (1 + self.changes.get("gain", zero)) + self.changes.get("shift", zero)
        return linear(changed_inputs, self.matrix + self.changes.get("matrix", zero), bias)

    def minimize(self, samples: HeadSamples, penalty: float) -> None:
        """Minimize the cross-entropy plus the penalty, starting from the current changes.

        The penalty of every entry is proportional to the entry's effect on the scores.
        """
        input_square = samples.inputs.square().mean()
        weight_square = self.matrix.square().mean()
        scales = {
            "matrix": input_square,
            "gain": input_square * weight_square,
            "shift": weight_square,
            "bias": torch.ones(()),
        }
        changes = [values.requires_grad_() for values in self.changes.values()]
        optimizer = torch.optim.LBFGS(changes, max_iter=ITERATIONS, line_search_fn="strong_wolfe")

        @torch.enable_grad()
        def closure() -> Tensor:
            optimizer.zero_grad()
            squares = [float(scales[name]) * values.square().sum() for name, values in self.changes.items()]
            loss = penalty * torch.stack(squares).sum()
            loss.backward()
            for inputs, targets in samples.slices():
                part = cross_entropy(self.scores(inputs), targets, reduction="sum") / len(samples.inputs)
                part.backward()
                loss = loss.detach() + part.detach()
            return loss

        optimizer.step(closure)
        for values in changes:
            values.requires_grad_(False)

    def state(self) -> dict[str, Tensor]:
        """Return a copy of the current changes."""
        return {name: values.clone() for name, values in self.changes.items()}

    def write(self, changes: dict[str, Tensor]) -> None:
        """Apply changes to the weights of the model."""
        if "matrix" in changes:
            matrix = changes["matrix"]
            self.head_weights["weight"].add_(matrix.T if self.head.linear.transposed else matrix)
        if "bias" in changes:
            self.head_weights["bias"].add_(changes["bias"])
        if self.head.norm:
            offset = self.head.norm.offset
            factor = 1 + changes["gain"]
            self.norm_weights["weight"].copy_((self.norm_weights["weight"] + offset) * factor - offset)
            if "shift" in changes:
                self.norm_weights["bias"].copy_(self.norm_weights["bias"] * factor + changes["shift"])
