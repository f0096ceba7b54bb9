"""The order in which the parts of a model run: its blocks, and the modules inside each block."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from transfuse.base.batch import Batch, split_batch, without_labels


@dataclass(frozen=True)
class Step:
    """A module whose output can replace everything that has run inside it.

    Attributes:
        name: name of the module.
        block: name of the member of a module list that the module is, or is a child of.
        output_bytes: size of the module's output for one sample.
        is_costly: whether the module is worth caching, because it is slow to run again.
    """

    name: str
    block: str
    output_bytes: int
    is_costly: bool = True

    @property
    def stack(self) -> str:
        """Name of the module list that contains the block."""
        return self.block.rpartition(".")[0]

    @property
    def is_block(self) -> bool:
        """Whether the module is a block itself."""
        return self.name == self.block


def execution_steps(model: nn.Module, batch: Batch, costly: Collection[str] = ()) -> list[Step]:
    """Return the blocks in the order in which they finish, each preceded by its children.

    The children of a block are included only if they run one after the other. Children without parameters are left
    out. The list is empty if a block runs more than once in a forward pass, or if its output is modified later.

    Args:
        batch: any batch. Its first sample is run.
        costly: names of modules. A child is worth caching only if it contains one of them.
    """
    blocks = {
        f"{stack}.{index}": block
        for stack, members in block_lists(model).items()
        for index, block in enumerate(members)
    }
    children = {
        f"{name}.{child}": module
        for name, block in blocks.items()
        for child, module in block.named_children()
        if any(True for _ in module.parameters())
    }
    runs = _trace(model, next(split_batch(batch, 1)), {**children, **blocks})
    if not all(name in runs and runs[name].replaceable for name in blocks):
        return []
    steps = []
    for block in sorted(blocks, key=lambda name: runs[name].end):
        for child in _sequential_children(block, children, runs):
            is_costly = any(_is_inside(name, child) for name in costly)
            steps.append(Step(child, block, runs[child].output_bytes, is_costly))
        steps.append(Step(block, block, runs[block].output_bytes))
    return steps


def steps_within_budget(steps: Sequence[Step], samples: int, room: int) -> list[Step]:
    """Return all steps, or the blocks alone if caching the children of one block would take more than `room` bytes.

    Args:
        samples: number of samples to cache.
    """
    child_bytes: dict[str, int] = {}
    for step in steps:
        if step.is_costly and not step.is_block:
            child_bytes[step.block] = child_bytes.get(step.block, 0) + step.output_bytes
    fits = max(child_bytes.values(), default=0) * samples <= room
    return [step for step in steps if fits or step.is_block]


def prefix_lengths(steps: Sequence[Step], stages: Sequence[Iterable[str]]) -> list[int]:
    """Return, for every stage, how many steps precede it and all later stages.

    Args:
        stages: names of the modules that each stage reads or writes, in execution order.
    """
    block_starts = {step.block: index for index, step in reversed(list(enumerate(steps)))}
    children = {step.name: index for index, step in enumerate(steps) if not step.is_block}
    lengths: list[int] = []
    shortest = len(steps)
    for names in reversed(stages):
        for name in names:
            indices = [index for child, index in children.items() if _is_inside(name, child)]
            indices = indices or [index for block, index in block_starts.items() if _is_inside(name, block)]
            shortest = min([shortest, *indices])
        lengths.insert(0, shortest)
    return lengths


def block_lists(model: nn.Module) -> dict[str, list[nn.Module]]:
    """Return the outermost module lists by name."""
    lists = {name: module for name, module in model.named_modules() if isinstance(module, nn.ModuleList)}
    return {
        name: list(module) for name, module in lists.items() if not any(name.startswith(f"{other}.") for other in lists)
    }


def block_stack(model: PreTrainedModel, layers: int | None) -> tuple[str, int]:
    """Return the name of the list of blocks and its length; no name if the blocks are not in one list.

    Args:
        layers: the number of blocks by the configuration.
    """
    lists = {name: len(members) for name, members in block_lists(model).items() if len(members) == layers}
    return next(iter(lists.items())) if len(lists) == 1 else ("", layers or 0)


@contextmanager
def forward_hooks(modules: Iterable[nn.Module], hook: Callable[[nn.Module, Any, Any], None]) -> Iterator[None]:
    """Call `hook(module, inputs, output)` after each of the modules runs, within the context."""
    with ExitStack() as hooks:
        for module in modules:
            hooks.enter_context(module.register_forward_hook(hook))
        yield


@dataclass
class _Run:
    """One run of a module.

    Attributes:
        start, end: ticks of a clock that advances whenever a module starts or ends.
        replaceable: whether the module ran only once and its output was not modified later.
    """

    start: int
    end: int = -1
    output_bytes: int = 0
    replaceable: bool = True


@torch.no_grad()
def _trace(model: nn.Module, batch: Batch, modules: dict[str, nn.Module]) -> dict[str, _Run]:
    """Run the model once and return the runs of the modules, by name."""
    names = {module: name for name, module in modules.items()}
    runs: dict[str, _Run] = {}
    outputs: dict[str, list[tuple[Tensor, int]]] = {}
    clock = count()

    def on_start(module: nn.Module, *_: Any) -> None:
        name = names[module]
        runs[name] = _Run(next(clock), replaceable=name not in runs)

    def on_end(module: nn.Module, inputs: Any, output: Any) -> None:
        entries = output if isinstance(output, tuple) else (output,)
        tensors = [entry for entry in entries if isinstance(entry, Tensor)]
        run = runs[names[module]]
        run.end = next(clock)
        run.output_bytes = sum(tensor.nbytes for tensor in tensors)
        outputs[names[module]] = [(tensor, tensor._version) for tensor in tensors]

    with ExitStack() as hooks, forward_hooks(names, on_end):
        for module in names:
            hooks.enter_context(module.register_forward_pre_hook(on_start))
        model(**without_labels(batch))
    for name, versions in outputs.items():
        runs[name].replaceable &= all(tensor._version == version for tensor, version in versions)
    return runs


def _sequential_children(block: str, children: Iterable[str], runs: Mapping[str, _Run]) -> list[str]:
    """Return the children of a block in execution order, or none if they overlap or cannot be replaced."""
    names = [name for name in children if name in runs and _is_inside(name, block)]
    names.sort(key=lambda name: runs[name].end)
    ends = [runs[block].start, *(runs[name].end for name in names)]
    sequential = all(runs[name].start > end for name, end in zip(names, ends, strict=False))
    replaceable = all(runs[name].replaceable for name in names)
    return names if sequential and replaceable and ends[-1] < runs[block].end else []


def _is_inside(name: str, module: str) -> bool:
    return f"{name}.".startswith(f"{module}.")


def block_names(model: PreTrainedModel, batch: Batch) -> tuple[list[str], list[str]]:
    """Return the names of all blocks in execution order, and of those that are not the last of their stack."""
    blocks = [step for step in execution_steps(model, batch) if step.is_block]
    last = {step.stack: step for step in blocks}
    return [step.name for step in blocks], [step.name for step in blocks if step != last[step.stack]]
