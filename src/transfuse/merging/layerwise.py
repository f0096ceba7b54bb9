"""The fused model beside its parents, stage by stage: what layers read, what they should write, and what fits."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from transfuse.activations.hooks import HookPoint
from transfuse.activations.prefix_cache import PrefixCache
from transfuse.activations.token_importance import PositionWeights
from transfuse.base.batch import Batch, row_positions
from transfuse.base.distributed import process_group
from transfuse.distillation.teacher_weighting import Shares, weighted_rows
from transfuse.merging.gram import GramMatrix, accumulate, gram_matrix, importance_sample, sum_over_processes
from transfuse.merging.layer_groups import SelectableUnits, Stage
from transfuse.merging.layers import Modules, copy_states, fit_layer, load_states, matches_targets, submodules
from transfuse.merging.split import Fit, Split
from transfuse.merging.unit_selection import Parameters, assemble, select_units
from transfuse.network.spec import Linear

ROWS_PER_CANDIDATE = 8  # that units are chosen by, for each candidate, where there are so many
MAX_PRODUCTS = 5e10  # of all candidates, a second or so: as long as they take no more, more rows are looked at


@dataclass(frozen=True, eq=False)
class LayerwiseFit:
    """A fused model on its way from input to output; what is in front of the stage at hand is already fitted."""

    models: Sequence[PrefixCache]  # the fused one first
    weights: Sequence[float]
    halves: tuple[Split, ...]
    matters: dict[str, PositionWeights]

    @property
    def fused(self) -> nn.Module:
        """The model that is fitted."""
        return self.models[0].model

    def advance(self, level: int) -> None:
        """So many steps lie before whatever is still to be fitted."""
        for each in self.models:
            each.advance(level)

    def watch(self, stages: Sequence[Stage], level: int) -> None:
        """What is fitted next, until so many steps are done."""
        for parent in self.models[1:]:
            parent.watch([probe for stage in stages for probe in (*stage.written(), *stage.stream)], level)

    def fit(self, stage: Stage) -> dict[str, Fit]:
        """Every linear map of a stage, to the mean of the parents."""
        return self._solve(stage, [self._moments(stage, half, [None])[0] for half in self.halves])

    def choose(self, stage: Stage, units: SelectableUnits, reading: Stage) -> dict[str, Fit]:
        """The same, but every unit may be the mean's or one parent's own."""
        modules = submodules(self.fused, (*units.written, units.reader.name))
        options = [None, *range(len(self.models) - 1)]
        moments = [self._moments(stage, half, options) for half in self.halves]
        if self._agree(stage, moments[1]):
            return self._solve(stage, [half[0] for half in moments])
        fits, held_by = [], []
        for option, *pair in zip(options, *moments, strict=True):
            if option is not None:
                load_states(modules, copy_states(submodules(self.models[1 + option].model, modules)))
            fits.append(self._solve(stage, pair))
            held_by.append(copy_states(modules))
        first = 0 if units.read.shape[1] > 1 else 1  # the means of heads are worth choosing, of hidden units not
        fit, held = (self._read(reading, units, modules, held_by, half, first) for half in self.halves)
        chosen = select_units(units, fit, held, first)
        load_states(modules, assemble(stage.linears, units, held_by, chosen, (1.0, *self.weights)))
        counts = tuple(sum(unit // len(units.read) == kind for unit in chosen) for kind in range(len(options)))
        return {name: Fit(each.ridge, each.gain, counts) for name, each in fits[0].items()}

    def _agree(self, stage: Stage, by_option: Sequence[Sequence[GramMatrix]]) -> bool:
        """Whether the means write what every parent does: then there is nothing to choose among."""
        return all(
            matches_targets(linear, self.fused.get_submodule(linear.name), wanted)
            for option in by_option
            for linear, wanted in zip(stage.linears, option, strict=True)
        )

    def _solve(self, stage: Stage, moments: Sequence[Sequence[GramMatrix]]) -> dict[str, Fit]:
        """Fit to the first half's moments, the ridge chosen by the second's."""
        return {
            linear.name: fit_layer(linear, self.fused.get_submodule(linear.name), *pair)
            for linear, *pair in zip(stage.linears, *moments, strict=True)
        }

    def _moments(self, stage: Stage, half: Split, options: Sequence[int | None]) -> list[list[GramMatrix]]:
        """By option (the mean: None, or one parent), the sums of every linear map; nothing else is kept of a batch."""
        reads = HookPoint(stage.linears[0].name, "input", stage.linears[0].reads[0])
        found: list[Any] = [None] * len(stage.linears)
        for batch, shares in zip(half.batches, half.shares, strict=True):
            seen = self.models[0].observe([reads, *stage.stream], batch)
            rows = [self._rows(linear, seen[reads], batch) for linear in stage.linears]
            targets = self._targets(stage, seen, batch, shares, options)
            found = [
                accumulate(old, gram_matrix(_flat(seen[reads]), sought, row))
                for old, row, *sought in zip(found, rows, *targets, strict=True)
            ]
        apart = [each.apart() for each in sum_over_processes([each for each in found if each])]
        return [list(each) for each in zip(*apart, strict=True)]

    def _read(
        self,
        reading: Stage,
        units: SelectableUnits,
        modules: Modules,
        options: Sequence[Mapping[str, Parameters]],
        half: Split,
        first: int,
    ) -> tuple[GramMatrix, GramMatrix]:
        """The sums of what reads the means, and, of options from the `first` on, all side by side; of some rows, if
        there are many."""
        reads = HookPoint(units.reader.name, "input", units.reader.reads[0])
        candidates = units.read.numel() * (len(options) - first)
        most = max(ROWS_PER_CANDIDATE * candidates, MAX_PRODUCTS / candidates**2) / (
            len(half.batches) * process_group().count
        )
        means = every = None
        for number, (batch, shares) in enumerate(zip(half.batches, half.shares, strict=True)):
            inputs = []
            for option in options:
                load_states(modules, option)
                seen = self.models[0].observe([reads, *reading.stream], batch)
                inputs.append(_flat(seen[reads]))
            (targets,) = self._targets(reading, seen, batch, shares, [None])
            target = targets[reading.linears.index(units.reader)]
            drawn, counts = importance_sample(self._rows(units.reader, seen[reads], batch), most, number)
            means = accumulate(means, gram_matrix(inputs[0][drawn], [target[drawn]], counts))
            every = accumulate(
                every, gram_matrix(torch.cat([each[drawn] for each in inputs[first:]], 1), [target[drawn]], counts)
            )
        means, every = sum_over_processes([each for each in (means, every) if each is not None])
        return means, every

    def _targets(
        self,
        stage: Stage,
        seen: Mapping[HookPoint, Tensor],
        batch: Batch,
        shares: Shares,
        options: Sequence[int | None],
    ) -> list[list[Float[Tensor, "row writes"]]]:
        """By option, what every linear map should write: the parents' output, and what the stream has lost of it."""
        outputs = stage.written()
        lost = sum(_flat(seen[part]) for part in stage.stream)
        theirs = []
        for parent in self.models[1:]:
            found = parent.observe([*outputs, *stage.stream], batch)
            stream = sum(_flat(found[part]) for part in stage.stream) - lost
            theirs.append([_flat(found[probe]) + stream for probe in outputs])
        sample, _ = row_positions(found[outputs[0]], batch)
        every = shares.to(sample.device)[:, sample]
        return [
            [weighted_rows(every, each) for each in zip(*theirs, strict=True)] if option is None else theirs[option]
            for option in options
        ]

    def _rows(self, linear: Linear, values: Tensor, batch: Batch) -> Float[Tensor, " row"]:
        """How much each row matters to what a linear map writes."""
        _, position = row_positions(values, batch)
        matters = self.matters.get(linear.name)
        if matters is None:
            return torch.ones(len(position))
        known = position < len(matters)  # longer texts than those it was measured on
        return torch.where(known, matters.to(position.device)[position.clamp_max(len(matters) - 1)], 1.0)


def _flat(values: Float[Tensor, "*samples unit"]) -> Float[Tensor, "row unit"]:
    return values.reshape(-1, values.shape[-1])
