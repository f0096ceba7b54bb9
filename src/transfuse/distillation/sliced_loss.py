"""The loss of all answers of a batch, over large vocabularies slice by slice.

All logits of a batch of texts take more memory than the model. So the logits of a few answers at a time are compared
with their targets, turned into gradients, and dropped. Gradients are computed along with the loss, so that the backward
pass computes no logits again (compare Cut Cross-Entropy, Wijmans et al., 2411.09009, and Hsu et al., 2410.10989).
"""

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from transfuse.network.output_losses import SOFTMAX, OutputLoss
from transfuse.network.outputs import AnswerStates

CPU_SLICE = 2**23  # largest number of logits computed at once; one answer at least
GPU_SLICE = 2**25  # the same on a GPU, whose many cores need more of them


class SlicedTargets(Protocol):
    """Labels [answer], or probabilities or numbers [answer, entry], of which slices can be read."""

    def __len__(self) -> int:
        """Return the number of answers."""
        ...

    def __getitem__(self, rows: slice) -> Tensor:
        """Return the targets of some answers."""
        ...


def slice_entries(device: torch.device) -> int:
    """Return how many logits are computed at once on a device."""
    return GPU_SLICE if device.type == "cuda" else CPU_SLICE


@torch.no_grad()
def total_loss(answers: AnswerStates, targets: SlicedTargets, loss: OutputLoss = SOFTMAX) -> Float[Tensor, ""]:
    """Return the sum of the losses of all answers."""
    slices = answers.slices(slice_entries(answers.states.device))
    return torch.stack([loss.losses(answers.logits(rows), targets[rows], reduction="sum") for rows in slices]).sum()


def mean_loss(
    answers: AnswerStates, targets: SlicedTargets, parameters: Iterable[nn.Parameter], loss: OutputLoss = SOFTMAX
) -> Float[Tensor, ""]:
    """Return the mean loss of all answers. Its gradients can be read once.

    Args:
        parameters: trained parameters. Those that the head does not use are ignored.
        loss: the loss of such answers.
    """
    if not torch.is_grad_enabled():
        return total_loss(answers, targets, loss) / len(answers)
    state_gradients = torch.empty_like(answers.states)
    gradients: dict[Tensor, Tensor | None] = dict.fromkeys(
        parameter for parameter in parameters if parameter.requires_grad
    )
    total = torch.zeros((), device=answers.states.device)
    for rows in answers.slices(slice_entries(answers.states.device)):
        part_loss, state_gradients[rows], *parts = _slice_gradients(answers, rows, targets, list(gradients), loss)
        total += part_loss
        gradients = {
            parameter: part if sum_so_far is None else sum_so_far.add_(part)
            for (parameter, sum_so_far), part in zip(gradients.items(), parts, strict=True)
            if part is not None
        }
        del parts  # as large as the vocabulary, like those of the next slice
    values = [state_gradients, *gradients.values()]
    mean: Tensor = _WithGradients.apply(total / len(answers), 1 / len(answers), values, answers.states, *gradients)
    return mean


def _slice_gradients(
    answers: AnswerStates, rows: slice, targets: SlicedTargets, parameters: Sequence[Tensor], loss: OutputLoss
) -> tuple[Tensor, ...]:
    """Return the sum of the losses of some answers, and its gradients.

    The gradients are those of the states and of `parameters`, where None means that the head does not use one.
    """
    expected = targets[rows]
    states = answers.states[rows].detach().requires_grad_()
    logits = answers.head(states)
    total, logit_gradients = loss.gradients(logits.detach(), expected)
    del expected
    gradients = torch.autograd.grad(logits, [states, *parameters], logit_gradients, allow_unused=True)
    return total, *gradients


class _WithGradients(torch.autograd.Function):
    """A number with known gradients."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, scale: float, gradients: list[Tensor], *inputs: Tensor) -> Tensor:
        """Return the value.

        Args:
            gradients: gradients of the value divided by `scale`, one for each of `inputs`.
        """
        ctx.scale, ctx.gradients = scale, gradients
        return value.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients, which are scaled in place, since they can be as large as the vocabulary."""
        gradients, ctx.gradients = ctx.gradients, None
        return None, None, None, *(gradient.mul_(upstream * ctx.scale) for gradient in gradients)
