"""The choice of the blocks that stay: blocks are removed one by one, each time the one that changes the outputs least.

The change is measured, as the mean divergence of the predictions from those of the whole model on some samples.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from transfuse.base.batch import Batch, first_samples, without_labels
from transfuse.base.progress import Progress, silent
from transfuse.network.outputs import has_logits, model_output, predict
from transfuse.shrinking.blocks import Blocks

SAMPLES = 64  # that damage is measured on
MAX_ANSWERS = 2048  # that damage is measured on, evenly spaced


@torch.no_grad()
def choose_blocks(
    model: PreTrainedModel, stack: str, count: int, batches: Sequence[Batch], progress: Progress = silent
) -> Blocks:
    """Return the `count` blocks of a list that stay.

    Args:
        stack: the name of the list.
        batches: samples, of which the first ones are used.
    """
    depth = len(_members(model, stack))
    outputs = _log_probabilities if has_logits(model) else _raw_output
    samples = list(first_samples(batches, SAMPLES))
    whole = [outputs(model, batch) for batch in samples]

    def damage(kept: Sequence[int]) -> float:
        """Return how far the outputs are from those of the whole model if only some blocks run."""
        with only_blocks(model, stack, kept):
            pairs = [(outputs(model, batch), expected) for batch, expected in zip(samples, whole, strict=True)]
        return sum(float(_distance(found, expected)) for found, expected in pairs)

    kept = list(range(depth))
    for _ in progress.track(range(depth - count), "choosing blocks"):
        losses = {number: damage([other for other in kept if other != number]) for number in kept}
        kept.remove(min(losses, key=lambda number: losses[number]))
    return Blocks(stack, depth, tuple(kept))


def _members(model: PreTrainedModel, stack: str) -> nn.ModuleList:
    members = model.get_submodule(stack)
    assert isinstance(members, nn.ModuleList)
    return members


@contextmanager
def only_blocks(model: PreTrainedModel, stack: str, kept: Sequence[int]) -> Iterator[None]:
    """Let only some blocks of a list run, within the context."""
    parent_name, _, name = stack.rpartition(".")
    parent = model.get_submodule(parent_name)
    members = _members(model, stack)
    setattr(parent, name, nn.ModuleList([members[number] for number in kept]))
    try:
        yield
    finally:
        setattr(parent, name, members)


def _log_probabilities(model: PreTrainedModel, batch: Batch) -> Tensor:
    """Return log-probabilities, [answer, class]."""
    scores = predict(model, batch)
    return scores[:: max(1, len(scores) // MAX_ANSWERS)].log_softmax(-1)


def _raw_output(model: PreTrainedModel, batch: Batch) -> Tensor:
    """Return the outputs of a model without a head, as one vector."""
    return model_output(model, {name: values.to(model.device) for name, values in without_labels(batch).items()})


def _distance(found: Tensor, expected: Tensor) -> Tensor:
    """Return the total divergence of predictions, or the squared distance of other outputs."""
    if found.ndim == 1:
        return (found - expected).square().sum()
    return (expected.exp() * (expected - found)).sum()
