"""In what order the parts of a model run: its blocks, and in each of them the modules that it is made of."""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from transfuse.base.batch import Batch, cut, unlabelled


@dataclass(frozen=True)
class Step:
    """A module of which what it puts out stands for all that has run inside it.

    Attributes:
        block: the member of a module list that it is, or is a child of.
        size: bytes that what it puts out takes for one sample.
        kept: whether running it again would take long.
    """

    name: str
    block: str
    size: int
    kept: bool = True

    @property
    def stack(self) -> str:
        """The list that the block is a member of."""
        return self.block.rpartition(".")[0]

    @property
    def whole(self) -> bool:
        """Whether it is a block itself."""
        return self.name == self.block


def execution_steps(model: nn.Module, batch: Batch, costly: Collection[str] = ()) -> list[Step]:
    """Blocks in the order in which they end, and before each its children, where these run one after the other; those
    without parameters aside.

    Empty if any block runs more than once in a forward pass, or if what it put out is changed behind it.

    Args:
        costly: modules; what has none of them inside is not worth remembering.
    """
    blocks = {
        f"{stack}.{place}": block for stack, found in block_lists(model).items() for place, block in enumerate(found)
    }
    inside = {
        f"{name}.{child}": module
        for name, block in blocks.items()
        for child, module in block.named_children()
        if any(True for _ in module.parameters())
    }
    runs = _runs(model, next(cut(batch, 1)), {**inside, **blocks})
    if not all(name in runs and runs[name].whole for name in blocks):
        return []
    found = []
    for name in sorted(blocks, key=lambda name: runs[name].ended):
        parts = [each for each in inside if each in runs and _within(each, name)]
        parts.sort(key=lambda each: runs[each].ended)
        ends = [runs[name].started, *(runs[each].ended for each in parts)]
        one_by_one = all(runs[each].started > end for each, end in zip(parts, ends, strict=False))
        if one_by_one and all(runs[each].whole for each in parts) and ends[-1] < runs[name].ended:
            found += [Step(each, name, runs[each].size, any(_within(one, each) for one in costly)) for each in parts]
        found.append(Step(name, name, runs[name].size))
    return found


def steps_within_budget(order: Sequence[Step], samples: int, room: int) -> list[Step]:
    """The steps, or blocks alone, where remembering the parts of one for so many samples took more bytes than these."""
    parts: dict[str, int] = {}
    for step in order:
        if step.kept and not step.whole:
            parts[step.block] = parts.get(step.block, 0) + step.size
    fits = max(parts.values(), default=0) * samples <= room
    return [step for step in order if fits or step.whole]


@dataclass
class _Run:
    """When a module started and ended, what its output took, and whether it ran once and that stayed as it was."""

    started: int
    ended: int = -1
    size: int = 0
    whole: bool = True


@torch.no_grad()
def _runs(model: nn.Module, batch: Batch, modules: dict[str, nn.Module]) -> dict[str, _Run]:
    names = {module: name for name, module in modules.items()}
    found: dict[str, _Run] = {}
    outputs: dict[str, list[tuple[Tensor, int]]] = {}
    clock = iter(range(2**62))

    def start(module: nn.Module, *_: Any) -> None:
        name = names[module]
        found[name] = _Run(next(clock), whole=name not in found)

    def end(module: nn.Module, inputs: Any, output: Any) -> None:
        parts = [part for part in (output if isinstance(output, tuple) else (output,)) if isinstance(part, Tensor)]
        run = found[names[module]]
        run.ended, run.size = next(clock), sum(part.nbytes for part in parts)
        outputs[names[module]] = [(part, part._version) for part in parts]

    handles = [module.register_forward_pre_hook(start) for module in names]
    try:
        with forward_hooks(names, end):
            model(**unlabelled(batch))
    finally:
        for handle in handles:
            handle.remove()
    for name, kept in outputs.items():
        found[name].whole &= all(part._version == version for part, version in kept)
    return found


def prefix_lengths(order: Sequence[Step], stages: Sequence[Iterable[str]]) -> list[int]:
    """For each of some stages, given the modules it looks at: how many steps lie before it and all later ones."""
    first = {step.block: place for place, step in reversed(list(enumerate(order)))}
    own = {step.name: place for place, step in enumerate(order) if not step.whole}
    found: list[int] = []
    least = len(order)
    for names in reversed(stages):
        for name in names:
            places = [place for inner, place in own.items() if _within(name, inner)]
            least = min([least, *(places or [place for block, place in first.items() if _within(name, block)])])
        found.insert(0, least)
    return found


def _within(name: str, module: str) -> bool:
    return f"{name}.".startswith(f"{module}.")


def block_lists(model: nn.Module) -> dict[str, list[nn.Module]]:
    """The outermost module lists by name."""
    lists = {name: module for name, module in model.named_modules() if isinstance(module, nn.ModuleList)}
    return {
        name: list(module) for name, module in lists.items() if not any(name.startswith(f"{other}.") for other in lists)
    }


@contextmanager
def forward_hooks(modules: Iterable[nn.Module], look: Callable[[nn.Module, Any, Any], None]) -> Iterator[None]:
    """Inside, `look` is shown every one that runs, what it reads and what it puts out."""
    handles = [module.register_forward_hook(look) for module in modules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
