"""A model that remembers, batch by batch, what its first blocks put out: they are computed once, not for every layer
behind them. Memory: one residual stream per batch.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import nn

from transfuse.align.evidence import SeenError
from transfuse.batch import Batch, unlabelled


class Prefix:
    """The blocks of a model that lie before the layer at hand.

    Blocks are the members of its outermost module lists, in order; of several lists (an encoder's and a decoder's),
    those of the first come first.
    """

    def __init__(self, model: nn.Module, batches: Iterable[Batch]) -> None:
        self.model, self.batches, self.level = model, list(batches), 0
        self.stacks = stacks(model) if each_runs_once(model, self.batches[0]) else {}
        self.known: dict[int, dict[str, Any]] = {id(batch): {} for batch in self.batches}

    @torch.no_grad()
    def advance(self, level: int) -> None:
        """Remember the first `level` blocks, which no longer change."""
        before = self._ends(self.level)
        new = {name: block for name, block in self._ends(level).items() if block is not before.get(name)}
        if not new:
            return
        found = {id(batch): self._outputs(new, batch) for batch in self.batches}
        for place, each in found.items():
            self.known[place] |= each
        self.level = level

    @contextmanager
    def of(self, batch: Batch) -> Iterator[None]:
        """Inside, the remembered blocks give what they gave for this batch."""
        skipped = []
        try:
            for (name, blocks), count in zip(self.stacks.items(), self._counts(self.level), strict=True):
                for block in blocks[:count]:
                    block.forward = _giving(self.known[id(batch)][name])
                    skipped.append(block)
            yield
        finally:
            for block in skipped:
                del block.forward

    def _counts(self, level: int) -> list[int]:
        """How many blocks of each stack are among the first so many."""
        counts = []
        for blocks in self.stacks.values():
            counts.append(max(0, min(level, len(blocks))))
            level -= len(blocks)
        return counts

    def _ends(self, level: int) -> dict[str, nn.Module]:
        """The last block of each stack among the first so many."""
        pairs = zip(self.stacks.items(), self._counts(level), strict=True)
        return {name: blocks[count - 1] for (name, blocks), count in pairs if count}

    def _outputs(self, blocks: dict[str, nn.Module], batch: Batch) -> dict[str, Any]:
        """What these blocks put out; what lies behind them is not computed."""
        found: dict[nn.Module, Any] = {}

        def keep(block: nn.Module, inputs: Any, output: Any) -> None:
            found[block] = output
            if len(found) == len(blocks):
                raise SeenError

        with hooked(blocks.values(), keep), self.of(batch), suppress(SeenError):
            self.model(**unlabelled(batch))
        return {name: found[block] for name, block in blocks.items()}


def stacks(model: nn.Module) -> dict[str, list[nn.Module]]:
    """The outermost module lists by name."""
    lists = {name: module for name, module in model.named_modules() if isinstance(module, nn.ModuleList)}
    return {
        name: list(module) for name, module in lists.items()
        if not any(name.startswith(f"{other}.") for other in lists)
    }  # fmt: skip


@torch.no_grad()
def each_runs_once(model: nn.Module, batch: Batch) -> bool:
    """Whether every block runs once in a forward pass: what one put out then stands for it."""
    blocks = [block for stack in stacks(model).values() for block in stack]
    runs: Counter[nn.Module] = Counter()
    with hooked(blocks, lambda block, inputs, output: runs.update([block])):
        model(**unlabelled(batch))
    return all(runs[block] == 1 for block in blocks)


def levels(model: nn.Module, stages: Sequence[Iterable[str]]) -> list[int]:
    """For each of some stages, given the modules it looks at: how many blocks lie before it and all later ones."""
    places: dict[str, int] = {}
    number = 0
    for name, blocks in stacks(model).items():
        places |= {f"{name}.{index}.": number + index for index in range(len(blocks))}
        number += len(blocks)
    found: list[int] = []
    least = number
    for names in reversed(stages):
        inside = [place for start, place in places.items() for name in names if name.startswith(start)]
        least = min([least, *inside])
        found.insert(0, least)
    return found


@contextmanager
def hooked(modules: Iterable[nn.Module], look: Callable[[nn.Module, Any, Any], None]) -> Iterator[None]:
    """Inside, `look` is shown every one that runs, what it reads and what it puts out."""
    handles = [module.register_forward_hook(look) for module in modules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _giving(output: Any) -> Any:
    return lambda *arguments, **options: output
