"""What the units of a space look like: activations of the modules that a declaration names, as moments.

Both models see the same samples, a few at a time; activations are turned into moments and dropped, so memory does not
grow with the number of samples.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from functools import partial
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from transfuse.activations.token_filter import TokenFilter, all_tokens
from transfuse.base.batch import Batch, batch_size, split_batch, without_labels
from transfuse.base.distributed import ProcessGroup, process_group
from transfuse.network.layout import columns
from transfuse.network.model import declaration
from transfuse.network.space import Axis
from transfuse.network.spec import Embedding, Linear, Op, Spec, Table, Writer
from transfuse.transport.cost import Moments, moments, uncrossed

STACK_SEPARATOR = "|"  # between the names of layers that are stacked into one
MAX_SAMPLES = 8  # samples that are looked at together, at most
ACTIVATION_BYTES = 2**28  # bytes that their activations may take in either model: all the memory there is to pay


@dataclass(frozen=True)
class HookPoint:
    """Where the units of `axis` show: the input or the output of a module, or a parameter itself.

    Attributes:
        crossed: whether products between both models' units are wanted; else sums and squares are all.
        read: where that shows which a linear map makes it from, if that takes no more products.
    """

    name: str
    side: Literal["input", "output", "parameter"]
    axis: Axis
    prefix_only: bool = False
    crossed: bool = True
    read: "HookPoint | None" = None

    def parts(self) -> list[str]:
        """The linear maps that show it, in the order of the units: several for a stacked layer."""
        return self.name.split(STACK_SEPARATOR)


def output_points(spec: Spec) -> list[HookPoint]:
    """What every linear map, embedding and table writes, before any non-linearity."""
    return [_output(op) for op in spec.ops if isinstance(op, Writer) and not _no_module(op)]


def _no_module(op: Op) -> bool:
    """Experts are one parameter; no module shows what a single one puts out."""
    return isinstance(op, Linear) and op.stacked is not None


def _output(op: Writer) -> HookPoint:
    match op:
        case Table():
            return HookPoint(op.name, "parameter", op.writes)
        case Embedding():
            return HookPoint(op.name, "output", op.writes)
        case Linear():
            return HookPoint(op.name, "output", op.writes, op.prefix_only, read=_narrower(op))


def _narrower(op: Linear) -> HookPoint | None:
    """What a linear map reads, where it writes more; or as much, and others read the same."""
    if len(op.reads) != 1 or op.name.endswith("]"):  # a piece of a module's own
        return None
    reads = op.reads[0]
    if op.norm and op.writes.size >= reads.size:
        return HookPoint(op.norm, "output", reads, op.prefix_only)
    if op.writes.size > reads.size:
        return HookPoint(op.name.split(STACK_SEPARATOR)[0], "input", reads, op.prefix_only)
    return None


def input_points(spec: Spec) -> list[HookPoint]:
    """What linear maps without a norm in front read: hidden units behind the non-linearity, attention contexts."""
    return [
        HookPoint(op.name, "input", op.reads[0])
        for op in spec.linears()
        if op.norm is None and len(op.reads) == 1 and not _no_module(op)
    ]


def stream_points(spec: Spec) -> list[HookPoint]:
    """The residual stream as every norm hands it on."""
    return [HookPoint(norm.name, "output", norm.space) for norm in spec.norms()]


def collect_moments(
    source: nn.Module,
    target: nn.Module,
    probes: Iterable[HookPoint],
    batches: Iterable[Batch],
    select: Callable[[HookPoint], TokenFilter] = lambda probe: all_tokens,
    products: Callable[[HookPoint], torch.dtype | None] = lambda probe: None,
) -> dict[HookPoint, Moments]:
    """Moments of every probe over all batches, tokens as samples.

    Args:
        select: which tokens of a probe are samples.
        products: their dtype; None: the activations' own.
    """
    wanted = [probe for probe in probes if any(space.free for space in probe.axis.spaces())]
    hooked = [probe for probe in wanted if probe.side != "parameter"]
    found: dict[HookPoint, Moments] = {}

    def add(x: Mapping[HookPoint, Tensor], y: Mapping[HookPoint, Tensor]) -> None:
        for probe in x:
            one, two = (values[probe].flatten(0, -2) for values in (x, y))
            before = found.get(probe) or (None if probe.crossed else uncrossed(one, two))
            found[probe] = moments(one, two, before, products(probe))

    group = process_group()
    tables = [probe for probe in wanted if probe.side == "parameter"] if group.first else []
    add(*({probe: parameter_values(model, probe) for probe in tables} for model in (source, target)))
    cuts = {model: columns(declaration(model)) for model in (source, target)}
    look = partial(record_activations, source, hooked, cuts=cuts[source], select=select)
    for batch in group.shard(_pieces(batches, look)) if hooked else ():
        add(*(record_activations(model, hooked, batch, cuts[model], select) for model in (source, target)))
    if group.count == 1:
        return found
    shown = [probe for probe in wanted if any(group.all_gather(probe in found))]
    return {probe: _summed(group, found.get(probe)) for probe in shown}


def _pieces(batches: Iterable[Batch], look: Callable[[Batch], Mapping[HookPoint, Tensor]]) -> Iterator[Batch]:
    """As many samples at a time as there is room for; how much one takes is looked up first."""
    count = 0
    for batch in batches:
        if not count:
            count = ACTIVATION_BYTES // max(
                sum(values.nbytes for values in look(next(split_batch(batch, 1))).values()), 1
            )
        yield from split_batch(batch, min(max(count, 1), MAX_SAMPLES))


def _summed(group: ProcessGroup, seen: Moments | None) -> Moments:
    """The moments of all processes together."""
    names = [each.name for each in fields(Moments)]
    own = None if seen is None else [torch.as_tensor(getattr(seen, name)) for name in names]
    total = dict(zip(names, group.all_reduce(own), strict=True))
    return Moments(int(total.pop("count")), **total)


def parameter_values(model: nn.Module, probe: HookPoint) -> Float[Tensor, "*rows unit"]:
    """The parameter that a probe names."""
    values = model.get_parameter(probe.name).detach()
    return values if values.ndim > 1 else values.unsqueeze(0)


@torch.no_grad()
def record_activations(
    model: nn.Module,
    probes: Iterable[HookPoint],
    batch: Batch,
    cuts: Mapping[str, Tensor],
    select: Callable[[HookPoint], TokenFilter] = lambda probe: all_tokens,
    until: Iterable[nn.Module] = (),
) -> dict[HookPoint, Float[Tensor, "*samples unit"]]:
    """The activations of one batch. What has no tokens counts as one token a sample; padding is left out. The pass ends
    when all have shown.

    Args:
        cuts: by the name of each linear map opened from a fused one, which of the module's outputs are its own.
        until: modules that the pass goes on to in any case.
    """
    pieces: dict[HookPoint, dict[str, Tensor]] = {}
    count, mask = batch_size(batch), batch.get("attention_mask")

    def kept(probe: HookPoint, values: Tensor) -> Tensor:
        values = values if values.ndim == 3 else values.reshape(count, -1, values.shape[-1])
        values = values.expand(count, -1, -1)  # positions are looked up once for all samples
        chosen = select(probe)(values)
        if mask is None or values.shape[1] != mask.shape[1]:
            return chosen
        return chosen[select(probe)(mask.unsqueeze(-1)).squeeze(-1).bool()]

    def hook(probe: HookPoint, name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Any], None]:
        def keep(module: nn.Module, arguments: tuple[Tensor, ...], output: Any) -> None:
            output = output[0] if isinstance(output, tuple) else output  # a router also says whom it chose
            values = arguments[0] if probe.side == "input" else output
            values = values.flatten(2).movedim(1, -1) if isinstance(module, nn.Conv2d) else values
            if probe.side == "output" and name in cuts:
                values = values[..., cuts[name].to(values.device)]
            pieces.setdefault(probe, {})[name] = kept(probe, values.detach())
            shown((probe, name))

        return keep

    def shown(one: object) -> None:
        missing.discard(one)
        if not missing:
            raise StopForward

    probes, until = list(probes), list(until)
    missing: set[object] = {*until, *((probe, name) for probe in probes for name in probe.parts())}
    handles = [
        model.get_submodule(module_name(name)).register_forward_hook(hook(probe, name))
        for probe in probes
        for name in probe.parts()
    ]
    handles += [module.register_forward_hook(lambda module, *_: shown(module)) for module in until]
    try:
        model(**without_labels(batch))
    except StopForward:
        pass
    finally:
        for handle in handles:
            handle.remove()
    whole = {probe: [found[name] for name in probe.parts()] for probe, found in pieces.items()}
    return {probe: torch.cat(parts, -1) if len(parts) > 1 else parts[0] for probe, parts in whole.items()}


class StopForward(Exception):  # noqa: N818
    """All that was looked for has shown; what the model would go on to compute is not needed."""


def module_name(name: str) -> str:
    """The module of a linear map, which may be one of several opened from it."""
    return re.sub(r"\[\d+\]$", "", name)
