"""The choice of the blocks that stay: blocks are removed one by one, each time the one that changes the outputs least.

The change is measured, as the mean divergence of the predictions from those of the whole model on some samples.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from transfuse.base.batch import Batch, first_samples
from transfuse.base.progress import Progress, silent
from transfuse.errors import SpecError
from transfuse.network.families import declare
from transfuse.network.model import declaration
from transfuse.network.sizes import Sizes, block_settings, resized
from transfuse.network.spec import Spec
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

    Raises:
        SpecError: the blocks have different tensors, and no `count` of them that may stay can take the places.
    """
    depth = len(_members(model, stack))
    has_places = _has_places(model, Blocks(stack, depth, tuple(range(depth))), count)
    damage = Damage(model, list(first_samples(batches, SAMPLES)))
    kept = list(range(depth))
    for _ in progress.track(range(depth - count), "choosing blocks"):
        losses = {}
        for number in kept:
            others = [other for other in kept if other != number]
            if allowed(others) and has_places(others):
                with only_blocks(model, stack, others):
                    losses[number] = damage.of(model)
        if not losses:
            raise SpecError(
                f"{type(model).__name__}: its blocks have different tensors, so no {count} of them can take the places"
                f" of {count} blocks; leave out layers, or give another number"
            )
        kept.remove(min(losses, key=lambda number: losses[number]))
    return Blocks(stack, depth, tuple(kept))


def _has_places(model: PreTrainedModel, blocks: Blocks, count: int) -> AllowedFn:
    """Return what tells whether `count` of some blocks have the tensors that a model of `count` blocks has, in order.

    In ModernBERT, for example, only the first block has no norm in front of its attention.
    """
    own = _tensors_by_block(declaration(model), blocks)
    by_place = [  # of a model all of whose blocks have the settings of one block
        _tensors_by_block(
            declare(resized(model.config, Sizes(layers=count), [block] * count), type(model).__name__), blocks
        )
        for block in range(blocks.depth)
    ]

    def has_places(kept: Sequence[int]) -> bool:
        rest = iter(kept)
        return all(any(by_place[block][place] == own[block] for block in rest) for place in range(count))

    return has_places


def _tensors_by_block(spec: Spec, blocks: Blocks) -> dict[int, set[str]]:
    """Return the names of the tensors of each block, without what is common to them, by its number."""
    names: dict[int, set[str]] = {}
    for name in spec.tensors():
        if (number := blocks.number(name)) is not None:
            names.setdefault(number, set()).add(name.removeprefix(f"{blocks.stack}.{number}."))
    return names


def _members(model: PreTrainedModel, stack: str) -> nn.ModuleList:
    members = model.get_submodule(stack)
    assert isinstance(members, nn.ModuleList)
    return members


@contextmanager
def only_blocks(model: PreTrainedModel, stack: str, kept: Sequence[int]) -> Iterator[None]:
    """Let only some blocks of a list run, each with its own settings, within the context."""
    parent_name, _, name = stack.rpartition(".")
    parent = model.get_submodule(parent_name)
    members = _members(model, stack)
    settings = block_settings(model.config, len(members))
    fewer: dict[str, Any] = {key: [values[number] for number in kept] for key, values in settings.items()}
    if hasattr(model.config, "use_cache"):
        fewer["use_cache"] = False  # blocks find their caches by their old numbers
    own = {key: getattr(model.config, key) for key in fewer}
    setattr(parent, name, nn.ModuleList([members[number] for number in kept]))
    for key, value in fewer.items():
        setattr(model.config, key, value)
    try:
        yield
    finally:
        setattr(parent, name, members)
        for key, value in own.items():
            setattr(model.config, key, value)
