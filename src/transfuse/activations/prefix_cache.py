"""A model that remembers, batch by batch, what it has computed and what no longer changes.

What ran before the layer at hand is computed once, not for every layer behind it. Of a model that stays as it is, so is
what is looked at until the next step is done, as far as there is room. Memory: for each batch a residual stream, and
within a block one for each of its parts that is done.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from transfuse.activations.execution_order import Step, forward_hooks
from transfuse.activations.hooks import HookPoint, record_activations
from transfuse.base.batch import Batch


class PrefixCache:
    """The steps of a model that lie before the layer at hand."""

    def __init__(self, model: nn.Module, batches: Iterable[Batch], order: Sequence[Step], room: int = 0) -> None:
        """`room`: bytes that may be remembered of what is watched; only of a model that stays as it is."""
        self.model, self.batches, self.order, self.room = model, list(batches), order, room
        self.level = self.next = 0
        self.known: dict[int, dict[str, Any]] = {id(batch): {} for batch in self.batches}
        self.watched: list[HookPoint] = []
        self.seen: dict[int, dict[HookPoint, Tensor]] = {}
        self.ahead: dict[int, dict[str, Any]] = {}  # what is to be known at the next level, where it has shown

    @torch.no_grad()
    def advance(self, level: int) -> None:
        """Remember the first `level` steps, which no longer change; forget what was watched."""
        if level <= self.level:
            return
        stays, new = self._standing(level), self._new(level)
        for batch in self.batches:
            ahead = self.ahead.get(id(batch)) if level == self.next else None
            ahead = (ahead or self._look([], new, batch)[1]) if new else {}
            found = self.known[id(batch)] | ahead
            self.known[id(batch)] = {key: found[key] for key in stays}
        self.level = level
        self.watch([], level)

    def watch(self, probes: Iterable[HookPoint], level: int) -> None:
        """What will be looked at, more than once or bit by bit, before so many steps are done."""
        probes = list(dict.fromkeys(probes))
        if probes != self.watched:
            self.watched, self.next, self.seen, self.ahead = probes, level, {}, {}

    @torch.no_grad()
    def observe(self, probes: Sequence[HookPoint], batch: Batch) -> dict[HookPoint, Tensor]:
        """The activations of a batch, computed or remembered."""
        place = id(batch)
        if not {*probes} <= {*self.watched} or (place not in self.seen and self._taken() >= self.room):
            return self._look(probes, {}, batch)[0]
        if place not in self.seen:
            self.seen[place], self.ahead[place] = self._look(self.watched, self._new(self.next), batch)
        return {probe: self.seen[place][probe] for probe in probes}

    @contextmanager
    def of(self, batch: Batch) -> Iterator[None]:
        """Inside, the steps that are remembered give what they gave for this batch."""
        skipped: list[nn.Module] = []
        try:
            for key, step in self._standing(self.level).items():
                for name in self._behind(step):
                    skipped.append(self.model.get_submodule(name))
                    skipped[-1].forward = _giving(self.known[id(batch)][key])
            yield
        finally:
            for module in skipped:
                del module.forward

    def _standing(self, level: int) -> dict[str, Step]:
        """Those of the first so many steps that stand for all of them: by the name of each list, the last block of it
        that is done; by their own, the parts of the block behind it that are and that are worth remembering."""
        found: dict[str, Step] = {}
        for step in self.order[:level]:
            if step.whole:
                found = {key: each for key, each in found.items() if each.block != step.block} | {step.stack: step}
            elif step.kept:
                found[step.name] = step
        return found

    def _behind(self, step: Step) -> list[str]:
        """The modules that it stands for, itself among them."""
        done = self.order[: self.level]
        return [each.name for each in done if each.whole and each.stack == step.stack] if step.whole else [step.name]

    def _new(self, level: int) -> dict[str, nn.Module]:
        """What is to be computed to know so many steps."""
        before = self._standing(self.level)
        new = {key: step for key, step in self._standing(level).items() if step != before.get(key)}
        return {key: self.model.get_submodule(step.name) for key, step in new.items()}

    def _taken(self) -> int:
        """Bytes of what is remembered of what is watched."""
        return sum(values.nbytes for seen in self.seen.values() for values in seen.values())

    def _look(
        self, probes: Sequence[HookPoint], modules: dict[str, nn.Module], batch: Batch
    ) -> tuple[dict[HookPoint, Tensor], dict[str, Any]]:
        """What probes show, and what these modules put out; what lies behind them is not computed."""
        found: dict[nn.Module, Any] = {}
        with (
            forward_hooks(modules.values(), lambda module, inputs, output: found.update({module: output})),
            self.of(batch),
        ):
            seen = record_activations(self.model, probes, batch, {}, until=modules.values())
        return seen, {key: found[module] for key, module in modules.items()}


def _giving(output: Any) -> Any:
    return lambda *arguments, **options: output
