"""A cache of the part of a model that no longer changes, batch by batch.

The steps before the layer that is being fitted run once, not once per layer. Of a model that never changes, the
activations that are watched are cached too, as far as there is room. The cache takes one residual stream per batch, and
within a block one output per finished child.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from transfuse.activations.execution_order import Step, forward_hooks
from transfuse.activations.hooks import HookPoint, record_activations
from transfuse.base.batch import Batch
from transfuse.network.precision import mixed_precision


class PrefixCache:
    """A model whose first steps are replaced by their cached outputs."""

    def __init__(
        self, model: nn.Module, batches: Iterable[Batch], steps: Sequence[Step], room: int = 0, mixed: bool = False
    ) -> None:
        """
        Args:
            batches: the batches that may be replayed or observed. They are identified by `id`.
            steps: the steps of the model in execution order.
            room: bytes that watched activations may take. It must be 0 if the model changes.
            mixed: whether the model runs in mixed precision.
        """
        self.model = model
        self.batches = list(batches)
        self.steps = steps
        self.room = room
        self.mixed = mixed
        self.length = 0  # number of steps that are cached
        self.outputs: dict[int, dict[str, Any]] = {id(batch): {} for batch in self.batches}
        self.watched: list[HookPoint] = []
        self.kept: set[HookPoint] = set()  # those among them that are observed more than once
        self.next_length = 0  # number of steps that will be cached next
        self.activations: dict[int, dict[HookPoint, Tensor]] = {}
        self.next_outputs: dict[int, dict[str, Any]] = {}  # outputs for `next_length`, recorded with the activations

    @torch.no_grad()
    def advance(self, length: int) -> None:
        """Cache the first `length` steps, which must not change from now on. Stop watching."""
        if length <= self.length:
            return
        remaining = self._cached_steps(length)
        new_modules = self._new_modules(length)
        for batch in self.batches:
            new_outputs = self.next_outputs.get(id(batch)) if length == self.next_length else None
            if new_modules and not new_outputs:
                _, new_outputs = self._run([], new_modules, batch)
            outputs = self.outputs[id(batch)] | (new_outputs if new_modules and new_outputs else {})
            self.outputs[id(batch)] = {key: outputs[key] for key in remaining}
        self.length = length
        PrefixCache.watch(self, [], [], length)  # a subclass may count steps of its own

    def watch(self, once: Iterable[HookPoint], repeatedly: Iterable[HookPoint], length: int) -> None:
        """Announce the points that will be observed, once or repeatedly, before `length` steps are cached."""
        points = list(dict.fromkeys([*once, *repeatedly]))
        if points != self.watched:
            self.watched = points
            self.kept = set(repeatedly)
            self.next_length = length
            self.activations = {}
            self.next_outputs = {}

    @torch.no_grad()
    def observe(self, points: Sequence[HookPoint], batch: Batch) -> dict[HookPoint, Tensor]:
        """Return the activations of a batch at the points, [*samples, unit] each."""
        key = id(batch)
        if key in self.activations and self.kept.issuperset(points):
            return {point: self.activations[key][point] for point in points}
        if key in self.activations or not {*points} <= {*self.watched} or self._activation_bytes() >= self.room:
            return self._run(points, {}, batch)[0]
        activations, outputs = self._run(self.watched, self._new_modules(self.next_length), batch)
        self.activations[key] = {point: values for point, values in activations.items() if point in self.kept}
        self.next_outputs[key] = outputs
        return {point: activations[point] for point in points}

    @contextmanager
    def replay(self, batch: Batch) -> Iterator[None]:
        """Make the cached modules return their cached outputs for this batch, if it has any, within the context.

        The model runs in the precision of the cache.
        """
        replaced: list[nn.Module] = []
        steps = self._cached_steps(self.length) if id(batch) in self.outputs else {}
        try:
            for key, step in steps.items():
                for name in self._replaced_modules(step):
                    replaced.append(self.model.get_submodule(name))
                    replaced[-1].forward = _constant(self.outputs[id(batch)][key])
            with mixed_precision(next(self.model.parameters()).device) if self.mixed else nullcontext():
                yield
        finally:
            for module in replaced:
                del module.forward

    def _cached_steps(self, length: int) -> dict[str, Step]:
        """Return the steps whose outputs replace the first `length` steps.

        These are the last finished block of every stack, by the name of the stack, and the finished costly children of
        the next block, by their own names.
        """
        cached: dict[str, Step] = {}
        for step in self.steps[:length]:
            if step.is_block:
                cached = {key: other for key, other in cached.items() if other.block != step.block}
                cached[step.stack] = step
            elif step.is_costly:
                cached[step.name] = step
        return cached

    def _replaced_modules(self, step: Step) -> list[str]:
        """Return the names of the modules that a cached step replaces, including its own."""
        if not step.is_block:
            return [step.name]
        finished = self.steps[: self.length]
        return [other.name for other in finished if other.is_block and other.stack == step.stack]

    def _new_modules(self, length: int) -> dict[str, nn.Module]:
        """Return the modules whose outputs are needed to cache `length` steps and are not cached yet."""
        cached = self._cached_steps(self.length)
        new = {key: step for key, step in self._cached_steps(length).items() if step != cached.get(key)}
        return {key: self.model.get_submodule(step.name) for key, step in new.items()}

    def _activation_bytes(self) -> int:
        return sum(values.nbytes for by_point in self.activations.values() for values in by_point.values())

    def _run(
        self, points: Sequence[HookPoint], modules: dict[str, nn.Module], batch: Batch
    ) -> tuple[dict[HookPoint, Tensor], dict[str, Any]]:
        """Return the activations at the points and the outputs of the modules.

        The forward pass stops as soon as all of them are recorded.
        """
        outputs: dict[nn.Module, Any] = {}

        def record(module: nn.Module, inputs: Any, output: Any) -> None:
            outputs[module] = output

        with forward_hooks(modules.values(), record), self.replay(batch):
            activations = record_activations(self.model, points, batch, {}, until=modules.values())
        return activations, {key: outputs[module] for key, module in modules.items()}


def _constant(output: Any) -> Callable[..., Any]:
    """Return a function that ignores its arguments and returns `output`."""
    return lambda *arguments, **options: output
