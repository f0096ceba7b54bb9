"""The choice of the blocks that stay: blocks are removed one by one, each time the one that changes the outputs least.

The change is measured, as the mean divergence of the predictions from those of the whole model on some samples.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from torch import nn
from transformers import PreTrainedModel

from transfuse.base.batch import Batch, first_samples
from transfuse.base.progress import Progress, silent
from transfuse.shrinking.blocks import Blocks
from transfuse.shrinking.damage import Damage

SAMPLES = 64  # that damage is measured on

AllowedFn = Callable[[Sequence[int]], bool]
"""Returns whether these blocks may stay, or a part of them."""


def any_blocks(kept: Sequence[int]) -> bool:
    """Return True: all blocks may stay."""
    return True


def choose_blocks(
    model: PreTrainedModel,
    stack: str,
    count: int,
    batches: Sequence[Batch],
    progress: Progress = silent,
    allowed: AllowedFn = any_blocks,
) -> Blocks:
    """Return the `count` blocks of a list that stay.

    Args:
        stack: the name of the list.
        batches: samples, of which the first ones are used.
        allowed: tells which blocks may stay together. All of them may, and for more blocks than `count` that may,
            there is one that can be removed.
    """
    depth = len(_members(model, stack))
    damage = Damage(model, list(first_samples(batches, SAMPLES)))
    kept = list(range(depth))
    for _ in progress.track(range(depth - count), "choosing blocks"):
        losses = {}
        for number in kept:
            others = [other for other in kept if other != number]
            if allowed(others):
                with only_blocks(model, stack, others):
                    losses[number] = damage.of(model)
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
