"""Activations of both models on the same samples, accumulated as moments.

A few samples are run at a time, and their activations are discarded once they are added to the moments. Memory does not
grow with the number of samples.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import fields
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from transfuse.activations.hook_points import HookPoint
from transfuse.activations.token_filter import TokenFilter, all_tokens
from transfuse.base.batch import Batch, batch_size, split_batch, token_mask, without_labels
from transfuse.base.distributed import ProcessGroup, process_group
from transfuse.network.layout import fused_outputs
from transfuse.network.model import declaration
from transfuse.transport.cost import Moments, moments, zero_moments

MAX_SAMPLES = 8  # largest number of samples that are run together
ACTIVATION_BYTES = 2**28  # memory for the activations of either model


def collect_moments(
    source: nn.Module,
    target: nn.Module,
    points: Iterable[HookPoint],
    batches: Iterable[Batch],
    select: Callable[[HookPoint], TokenFilter] = lambda point: all_tokens,
    product_dtype: Callable[[HookPoint], torch.dtype | None] = lambda point: None,
) -> dict[HookPoint, Moments]:
    """Return the moments of all points with a free space. Every token is one sample of the moments.

    Args:
        select: returns the filter that chooses the tokens of a point.
        product_dtype: returns the dtype of the products at a point. None: the dtype of the activations.
    """
    points = [point for point in points if point.is_free]
    hooked = [point for point in points if point.side != "parameter"]
    totals: dict[HookPoint, Moments] = {}

    def add(source_values: Mapping[HookPoint, Tensor], target_values: Mapping[HookPoint, Tensor]) -> None:
        for point in source_values:
            x = source_values[point].flatten(0, -2)
            y = target_values[point].flatten(0, -2)
            total = totals.get(point) or (None if point.with_cross else zero_moments(x, y))
            totals[point] = moments(x, y, total, product_dtype(point))

    group = process_group()
    parameters = [point for point in points if point.side == "parameter"] if group.first else []
    add(*({point: parameter_values(model, point) for point in parameters} for model in (source, target)))
    slices = {model: fused_outputs(declaration(model)) for model in (source, target)}
    record_source = partial(record_activations, source, hooked, slices=slices[source], select=select)
    for batch in group.shard(_split_to_fit(batches, record_source)) if hooked else ():
        add(*(record_activations(model, hooked, batch, slices[model], select) for model in (source, target)))
    if group.count == 1:
        return totals
    collected = [point for point in points if any(group.all_gather(point in totals))]
    return {point: _sum_over_processes(group, totals.get(point)) for point in collected}


def parameter_values(model: nn.Module, point: HookPoint) -> Float[Tensor, "*rows unit"]:
    """Return the parameter at a point."""
    values = model.get_parameter(point.name).detach()
    return values if values.ndim > 1 else values.unsqueeze(0)


@torch.no_grad()
def record_activations(
    model: nn.Module,
    points: Iterable[HookPoint],
    batch: Batch,
    slices: Mapping[str, Tensor],
    select: Callable[[HookPoint], TokenFilter] = lambda point: all_tokens,
    until: Iterable[nn.Module] = (),
) -> dict[HookPoint, Float[Tensor, "*samples unit"]]:
    """Run one batch and return the activations at the points, without padding.

    Values without a token axis count as one token per sample. The forward pass stops once everything is recorded.

    Args:
        slices: for linear maps that share a module with others, the indices of their own outputs, by name.
        select: returns the filter that chooses the tokens of a point.
        until: modules that must have run before the forward pass stops.
    """
    points = list(points)
    until = list(until)
    layers = [(point, name) for point in points for name in point.layer_names()]
    recorder = _Recorder(batch, slices, select, {*until, *layers})
    with ExitStack() as hooks, suppress(StopForward):
        for point, name in layers:
            hooks.enter_context(_register(model.get_submodule(module_name(name)), point, name, recorder))
        for module in until:
            hooks.enter_context(module.register_forward_hook(lambda module, *_: recorder.finish(module)))
        model(**without_labels(batch))
    return recorder.activations()


def _register(module: nn.Module, point: HookPoint, name: str, recorder: "_Recorder") -> RemovableHandle:
    """Record a module's output after it has run, or its input before, so that a stopped pass does not run it."""
    record = partial(recorder.record, point, name)
    if point.side == "input":
        return module.register_forward_pre_hook(lambda module, arguments: record(module, arguments[0]))
    return module.register_forward_hook(lambda module, arguments, output: record(module, output))


class StopForward(Exception):  # noqa: N818
    """Stop a forward pass, because everything of interest has been recorded."""


def module_name(name: str) -> str:
    """Return the name of the module that computes a linear map, possibly together with others (`name[0]`, ...)."""
    return re.sub(r"\[\d+\]$", "", name)


class _Recorder:
    """Record activations until nothing is pending."""

    def __init__(
        self,
        batch: Batch,
        slices: Mapping[str, Tensor],
        select: Callable[[HookPoint], TokenFilter],
        pending: set[Any],
    ) -> None:
        self.samples = batch_size(batch)
        self.batch = batch
        self.slices = slices
        self.select = select
        self.pending = pending
        self.values: dict[HookPoint, dict[str, Tensor]] = {}

    def record(self, point: HookPoint, name: str, module: nn.Module, values: Any) -> None:
        """Record the input or the output of one layer at a point, when it runs for the first time."""
        if name in self.values.get(point, {}):
            return
        values = values[0] if isinstance(values, tuple) else values  # a router also returns the chosen experts
        values = values.flatten(2).movedim(1, -1) if isinstance(module, nn.Conv1d | nn.Conv2d) else values
        if point.side == "output" and name in self.slices:
            values = values[..., self.slices[name].to(values.device)]
        self.values.setdefault(point, {})[name] = self._selected_tokens(point, name, values.detach())
        self.finish((point, name))

    def finish(self, item: object) -> None:
        """Mark an item as recorded and stop the forward pass after the last one."""
        self.pending.discard(item)
        if not self.pending:
            raise StopForward

    def activations(self) -> dict[HookPoint, Tensor]:
        """Return the recorded values, with the layers of a stacked point concatenated."""
        layers = {point: [values[name] for name in point.layer_names()] for point, values in self.values.items()}
        return {point: torch.cat(parts, -1) if len(parts) > 1 else parts[0] for point, parts in layers.items()}

    def _selected_tokens(self, point: HookPoint, name: str, values: Tensor) -> Tensor:
        """Return the selected tokens, [sample, token, unit], or [token, unit] if padding was removed."""
        if values.ndim < 3 and len(values) % self.samples:  # rows of a table that all samples share
            values = values.unsqueeze(0)
        values = values if values.ndim == 3 else values.reshape(self.samples, -1, values.shape[-1])
        values = values.expand(self.samples, -1, -1)  # position embeddings are computed once for all samples
        selected = self.select(point)(values)
        mask = token_mask(self.batch, name, values.shape)
        return selected if mask is None else selected[self.select(point)(mask.unsqueeze(-1)).squeeze(-1).bool()]


def _split_to_fit(batches: Iterable[Batch], record: Callable[[Batch], Mapping[HookPoint, Tensor]]) -> Iterator[Batch]:
    """Yield parts of the batches whose activations fit in memory. The first sample is run to measure one."""
    samples = 0
    for batch in batches:
        if not samples:
            sample_bytes = sum(values.nbytes for values in record(next(split_batch(batch, 1))).values())
            samples = ACTIVATION_BYTES // max(sample_bytes, 1)
        yield from split_batch(batch, min(max(samples, 1), MAX_SAMPLES))


def _sum_over_processes(group: ProcessGroup, part: Moments | None) -> Moments:
    """Return the sum of all processes' moments. None: this process has none."""
    names = [field.name for field in fields(Moments)]
    tensors = None if part is None else [torch.as_tensor(getattr(part, name)) for name in names]
    totals = dict(zip(names, group.all_reduce(tensors), strict=True))
    return Moments(int(totals.pop("count")), **totals)
