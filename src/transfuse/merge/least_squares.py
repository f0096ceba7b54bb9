"""Layer by layer, from input to output: the linear map from what the fused model sees to what its parents give.

The mean of aligned weights drifts: each layer of it reads a little less of what its parents' layers read, and the error
grows with depth. Here every linear map is fitted by ridge regression from the fused model's own inputs, the layers
before it already fitted, to the weighted mean of the aligned parents' outputs, pulled towards the mean of their
weights; what writes into the residual stream also makes good how far the stream has drifted. A token counts as much as
it matters to what the parents say (`sensitivity`). Unlabelled samples, no descent.
(RegMean, Jin et al., 2212.09849, regresses onto each parent's outputs from that parent's own inputs, for models that
share an initialisation.)

Hidden units and heads need not be means at all: half-alike ones average to something that is neither. Of the means and
of every parent's own, as many are taken as the layer has, those that together explain the branch's output best
(`units`); what reads them is then fitted. The last layer is fitted to what the parents say (`readout`).
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel

from transfuse.align.evidence import Probe, observe
from transfuse.batch import Batch, cut, held_out, size
from transfuse.errors import DataError
from transfuse.io.store import NOWHERE, Entry, Store
from transfuse.merge.fit import Fit, Half
from transfuse.merge.prefix import Prefix, levels
from transfuse.merge.readout import fit_readout, readout
from transfuse.merge.sensitivity import Weights, sensitivities
from transfuse.merge.stages import Branch, Stage, branch, stages
from transfuse.merge.sums import Sums, of_all, sums
from transfuse.merge.units import NEGLIGIBLE, Parameters, chosen_units, put_together
from transfuse.network.spec import Linear, Spec
from transfuse.ranks import Ranks, here
from transfuse.trust import Believe, Shares, even

RIDGES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)  # candidates, relative to the inputs' mean square
SELECTABLE = 8192  # inputs that units are chosen from, at most: the moments of so many are half a gigabyte

Modules = dict[str, nn.Module]


def least_squares(
    spec: Spec, fused: PreTrainedModel, parents: Sequence[PreTrainedModel], weights: Sequence[float],
    batches: Sequence[Batch], believe: Believe = even, leave: Collection[str] = (),
    each: Callable[[Sequence[Stage]], Iterable[Stage]] = lambda stages: stages, store: Store = NOWHERE,
) -> dict[str, Fit]:  # fmt: skip
    """Fit every linear map of `fused` in place, in the end what its scores are read out by.

    Args:
        spec: the declaration as the tensors are stored.
        fused: the mean of the parents; `parents`: all in its basis; `weights` sum to one.
        believe: whose output counts for how much, sample by sample.
        leave: names of linear maps that stay the mean.
        each: shows progress.
        store: where fitted layers are kept; one that was cut short goes on behind them.

    Returns:
        By the name of the linear map, or of a norm in front of a shared one, how well it was fitted.

    Raises:
        DataError: there are fewer than two samples.
    """
    fit, held = held_out(batches)
    if not fit or not held:
        raise DataError("least squares needs samples to fit with and others to choose with; give two or more")
    own = [_own(here(), half) for half in (fit, held)]
    halves = tuple(Half(each, [believe(parents, weights, batch) for batch in each]) for each in own)
    last = readout(spec, fused)
    last = None if last and last.map.name in leave else last
    todo = stages(spec, fused, {*leave, last.map.name} if last else leave)
    if (entry := store.load("sensitivities")) is None:
        matters = sensitivities(parents, [linear for stage in todo for linear in stage.linears], fit)
        store.keep("sensitivities", matters)
    else:
        matters = {name: values for name, values in entry.tensors.items() if name}
    every = [batch for half in halves for batch in half.batches]
    sweep = Sweep([Prefix(model, every) for model in (fused, *parents)], weights, halves, matters)
    before = levels(fused, [stage.names() for stage in todo])
    found: dict[str, Fit] = {}
    for place, stage in enumerate(each(todo)):
        if all(linear.name in found for linear in stage.linears):
            continue  # it read units that were chosen
        if (kept := store.load(f"stage {place}")) is not None:
            found |= _fitted(fused, kept)
            continue
        sweep.advance(before[place])
        units = branch(spec, stage, todo[place + 1 :])
        if units and units.read.numel() * (len(parents) + 1) <= SELECTABLE:
            reading = next(later for later in todo if units.reader in later.linears)
            changed, new = {*units.written, units.reader.name}, sweep.choose(stage, units, reading)
        else:
            changed, new = set(), sweep.fit(stage)
        _keep(store, f"stage {place}", fused, new, {*changed, *new})
        found |= new
    if last and (kept := store.load("readout")) is not None:
        found |= _fitted(fused, kept)
    elif last:
        sweep.advance(sum(map(len, sweep.models[0].stacks.values())))
        new = {last.name: fit_readout(last, sweep.models, halves)}
        _keep(store, "readout", fused, new, new)
        found |= new
    return found


def _own(ranks: Ranks, batches: Sequence[Batch]) -> list[Batch]:
    """This process's part of the samples. Raises `DataError` where some have none."""
    pieces = [piece for batch in batches for piece in cut(batch, -(-size(batch) // ranks.count))]
    if len(pieces) < ranks.count:
        raise DataError(f"{ranks.count} processes have {len(pieces)} batches between them; give more samples")
    return list(ranks.share(pieces))


def _keep(store: Store, name: str, fused: nn.Module, fits: Mapping[str, Fit], layers: Collection[str]) -> None:
    """The layers that were changed, as they are now."""
    tensors = {
        f"{layer}/{part}": values
        for layer in layers for part, values in fused.get_submodule(layer).state_dict().items()
    }  # fmt: skip
    store.keep(name, tensors, {layer: asdict(fit) for layer, fit in fits.items()})


@torch.no_grad()
def _fitted(fused: nn.Module, kept: Entry) -> dict[str, Fit]:
    """Layers as they were fitted before, put into the model."""
    for key, values in kept.tensors.items():
        layer, _, part = key.rpartition("/")
        fused.get_submodule(layer).get_parameter(part).copy_(values)
    fits = {layer: Fit(**facts) for layer, facts in kept.facts.items()}
    return {layer: replace(fit, units=fit.units and tuple(fit.units)) for layer, fit in fits.items()}


@dataclass(frozen=True, eq=False)
class Sweep:
    """A fused model on its way from input to output; what is in front of the stage at hand is already fitted."""

    models: Sequence[Prefix]  # the fused one first
    weights: Sequence[float]
    halves: tuple[Half, ...]
    matters: dict[str, Weights]

    @property
    def fused(self) -> nn.Module:
        """The model that is fitted."""
        return self.models[0].model

    def advance(self, level: int) -> None:
        """So many blocks lie before whatever is still to be fitted."""
        for each in self.models:
            each.advance(level)

    def fit(self, stage: Stage) -> dict[str, Fit]:
        """Every linear map of a stage, to the mean of the parents."""
        return self._solve(stage, [self._moments(stage, half, [None])[0] for half in self.halves])

    def choose(self, stage: Stage, units: Branch, reading: Stage) -> dict[str, Fit]:
        """The same, but every unit may be the mean's or one parent's own."""
        modules = {name: self.fused.get_submodule(name) for name in (*units.written, units.reader.name)}
        options = [None, *range(len(self.models) - 1)]
        moments = [self._moments(stage, half, options) for half in self.halves]
        fits, states = [], []
        for option, *pair in zip(options, *moments, strict=True):
            if option is not None:
                _load(modules, _states({name: self.models[1 + option].model.get_submodule(name) for name in modules}))
            fits.append(self._solve(stage, pair))
            states.append(_states(modules))
        fit, held = (self._read(reading, units, modules, states, half) for half in self.halves)
        chosen, kept = chosen_units(units, fit, held, len(options))
        _load(modules, put_together(stage.linears, units, states, chosen, (1.0, *self.weights)))
        counts = tuple(sum(unit // len(units.read) == kind for unit in chosen) for kind in range(len(options)))
        found = {name: Fit(each.ridge, each.gain, counts) for name, each in fits[0].items()}
        if reading.linears == (units.reader,):  # its own sums are among those seen
            found |= self._solve(reading, [[fit.only(kept)], [held.only(kept)]])
        return found

    def _solve(self, stage: Stage, moments: Sequence[Sequence[Sums]]) -> dict[str, Fit]:
        """Fit to the first half's moments, the ridge chosen by the second's."""
        return {
            linear.name: _fit(linear, self.fused.get_submodule(linear.name), *pair)
            for linear, *pair in zip(stage.linears, *moments, strict=True)
        }

    def _moments(self, stage: Stage, half: Half, options: Sequence[int | None]) -> list[list[Sums]]:
        """By option (the mean: None, or one parent), the sums of every linear map; nothing else is kept of a batch."""
        reads = Probe(stage.linears[0].name, "input", stage.linears[0].reads[0])
        found: list[list[Sums]] = []
        for batch, shares in zip(half.batches, half.shares, strict=True):
            seen = _observe(self.models[0], [reads, *stage.stream], batch)
            rows = [self._rows(linear, seen[reads], batch) for linear in stage.linears]
            targets = self._targets(stage, seen, batch, shares, options)
            new = [
                [sums(_flat(seen[reads]), *pair) for pair in zip(each, rows, strict=True)] for each in targets
            ]  # fmt: skip
            found = [
                [old + more for old, more in zip(*pair, strict=True)] for pair in zip(found, new, strict=True)
            ] if found else new  # fmt: skip
        every, count = of_all([each for option in found for each in option]), len(stage.linears)
        return [every[place : place + count] for place in range(0, len(every), count)]

    def _read(
        self, reading: Stage, units: Branch, modules: Modules, options: Sequence[Mapping[str, Parameters]], half: Half
    ) -> Sums:
        """The sums of what reads the units, over those of all options side by side."""
        reads = Probe(units.reader.name, "input", units.reader.reads[0])
        found: list[Sums] = []
        for batch, shares in zip(half.batches, half.shares, strict=True):
            inputs = []
            for option in options:
                _load(modules, option)
                seen = _observe(self.models[0], [reads, *reading.stream], batch)
                inputs.append(_flat(seen[reads]))
            (targets,) = self._targets(reading, seen, batch, shares, [None])
            target = targets[reading.linears.index(units.reader)]
            new = sums(torch.cat(inputs, 1), target, self._rows(units.reader, seen[reads], batch))
            found = [found[0] + new] if found else [new]
        return of_all(found)[0]

    def _targets(
        self, stage: Stage, seen: Mapping[Probe, Tensor], batch: Batch, shares: Shares, options: Sequence[int | None]
    ) -> list[list[Float[Tensor, "row writes"]]]:
        """By option, what every linear map should write: the parents' output, and what the stream has lost of it."""
        outputs = [Probe(linear.name, "output", linear.writes) for linear in stage.linears]
        lost = sum(_flat(seen[part]) for part in stage.stream)
        theirs = []
        for parent in self.models[1:]:
            found = _observe(parent, [*outputs, *stage.stream], batch)
            stream = sum(_flat(found[part]) for part in stage.stream) - lost
            theirs.append([_flat(found[probe]) + stream for probe in outputs])
        sample, _ = _places(found[outputs[0]], batch)
        every = shares.to(sample.device)[:, sample].unsqueeze(-1)
        return [
            [_mixed(every, each) for each in zip(*theirs, strict=True)] if option is None else theirs[option]
            for option in options
        ]

    def _rows(self, linear: Linear, values: Tensor, batch: Batch) -> Float[Tensor, " row"]:
        """How much each row matters to what a linear map writes."""
        _, position = _places(values, batch)
        matters = self.matters.get(linear.name)
        if matters is None:
            return torch.ones(len(position))
        known = position < len(matters)  # longer texts than those it was measured on
        return torch.where(known, matters.to(position.device)[position.clamp_max(len(matters) - 1)], 1.0)


def _mixed(shares: Float[Tensor, "model row one"], values: Sequence[Tensor]) -> Float[Tensor, "row writes"]:
    """The weighted mean of what several models write."""
    return torch.stack([share * each for share, each in zip(shares, values, strict=True)]).sum(0)


def _observe(model: Prefix, probes: Sequence[Probe], batch: Batch) -> dict[Probe, Tensor]:
    with model.of(batch):
        return observe(model.model, probes, batch, {})


def _states(modules: Modules) -> dict[str, Parameters]:
    return {
        name: {key: values.clone() for key, values in module.state_dict().items()} for name, module in modules.items()
    }


def _load(modules: Modules, states: Mapping[str, Parameters]) -> None:
    for name, module in modules.items():
        module.load_state_dict(states[name])


def _places(values: Float[Tensor, "*samples unit"], batch: Batch) -> tuple[Int[Tensor, " row"], Int[Tensor, " row"]]:
    """The sample and the position within it of every row that was observed."""
    if values.ndim == 3:
        samples, positions = values.shape[:2]
        places = torch.ones(samples, positions, device=values.device).nonzero()
    else:
        places = batch["attention_mask"].nonzero()
    return places[:, 0], places[:, 1]


def _flat(values: Float[Tensor, "*samples unit"]) -> Float[Tensor, "row unit"]:
    return values.reshape(-1, values.shape[-1])


@torch.no_grad()
def _fit(linear: Linear, module: nn.Module, fit: Sums, held: Sums) -> Fit:
    """Choose the ridge on `held`, then fit to all."""
    tensors = dict(module.named_parameters(recurse=False))
    weight, bias = tensors["weight"], tensors.get("bias")
    before = (weight if linear.transposed else weight.T).double()
    if bias is None:
        fit, held = fit.without_ones(), held.without_ones()
    else:
        before = torch.cat([before, bias.double().unsqueeze(0)])
    errors = {ridge: held.error(fit.solve(ridge, before)) for ridge in RIDGES}
    best, stays = min(errors, key=lambda ridge: errors[ridge]), held.error(before)
    if errors[best] >= stays or stays <= NEGLIGIBLE * held.square:  # nothing to gain; or nothing but rounding
        return Fit(None, 0.0)
    found = (fit + held).solve(best, before)
    if bias is not None:
        bias.copy_(found[-1])
        found = found[:-1]
    weight.copy_(found if linear.transposed else found.T)
    return Fit(best, 1 - errors[best] / stays)
