"""The layer-by-layer fit: what each layer of the fused model reads, what it should write, and the solution."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from transfuse.activations.hook_points import HookPoint
from transfuse.activations.prefix_cache import PrefixCache
from transfuse.activations.token_importance import PositionWeights, weights_at
from transfuse.base.batch import Batch, row_positions
from transfuse.base.budget import token_count
from transfuse.distillation.teacher_weighting import Shares, weighted_rows
from transfuse.merging.fitting.fit_data import Fit, Split
from transfuse.merging.fitting.gram import GramMatrix, accumulate, gram_matrix, importance_sample, sum_over_processes
from transfuse.merging.fitting.kept_units import chosen_units, cut_units
from transfuse.merging.fitting.layer_groups import SelectableUnits, Stage
from transfuse.merging.fitting.layers import Modules, copy_states, fit_layer, load_states, matches_targets, submodules
from transfuse.merging.fitting.reader_rows import VALIDATION_SHARE, ReaderRows, reader_moments, row_count
from transfuse.merging.fitting.unit_selection import Parameters, assemble, select_units
from transfuse.network.operations import Linear
from transfuse.network.precision import compute_dtype

MIN_DRAWN = 1 / 2  # smallest share of the rows of a batch that is drawn; fewer batches are run instead


@dataclass(frozen=True, eq=False)
class LayerwiseFit:
    """A fused model that is fitted from input to output. All layers before the current stage are already fitted.

    Attributes:
        models: the fused model, then the parents.
        weights: one weight per parent. They sum to one.
        splits: the training and the validation split.
        importance: weight of every token position, by the name of the layer.
    """

    models: Sequence[PrefixCache]
    weights: Sequence[float]
    splits: tuple[Split, ...]
    importance: dict[str, PositionWeights]

    @property
    def fused(self) -> nn.Module:
        """The model that is fitted."""
        return self.models[0].model

    def advance(self, length: int) -> None:
        """Cache the first `length` steps of all models, which must not change from now on."""
        for model in self.models:
            model.advance(length)

    def watch(self, stages: Sequence[Stage], length: int) -> None:
        """Announce the stages that are fitted before `length` steps are cached. Targets of the first are read once."""
        by_stage = [[*stage.output_points(), *stage.stream] for stage in stages]
        for parent in self.models[1:]:
            parent.watch(by_stage[0], [point for points in by_stage[1:] for point in points], length)

    def fit(self, stage: Stage) -> dict[str, Fit]:
        """Fit every linear map of a stage in place, to the mean of the parents' outputs."""
        return self._solve(stage, [self._moments(stage, split, [None])[0] for split in self.splits])

    def fit_with_selection(self, stage: Stage, units: SelectableUnits, reading: Stage) -> dict[str, Fit]:
        """Fit a stage in place, but choose every unit from the mean and the parents.

        If the means already write what every parent writes, all units stay means.

        Args:
            reading: the stage of the reader of the units.
        """
        modules = submodules(self.fused, (*units.outputs, units.reader.name))
        options = [None, *range(len(self.models) - 1)]  # the mean, then every parent
        moments = [self._moments(stage, split, options) for split in self.splits]
        if self._matches_all(stage, moments[1]):
            return self._solve(stage, [by_option[0] for by_option in moments])
        fits = []
        states = []
        for option, *pair in zip(options, *moments, strict=True):
            if option is not None:
                load_states(modules, copy_states(submodules(self.models[1 + option].model, modules)))
            fits.append(self._solve(stage, pair))
            states.append(copy_states(modules))
        first = 0 if units.inputs.shape[1] > 1 else 1  # means of heads are candidates, means of hidden units are not
        train, validation = (
            self._reader_rows(reading, units, modules, states, split, first, share)
            for split, share in zip(self.splits, (1.0, VALIDATION_SHARE), strict=True)
        )
        selected = select_units(units, reader_moments(train), ReaderRows.concatenated(validation), first)
        load_states(modules, assemble(stage.linears, units, states, selected, (1.0, *self.weights)))
        counts = tuple(sum(unit // len(units.inputs) == index for unit in selected) for index in range(len(options)))
        return {name: Fit(fit.ridge, fit.gain, counts) for name, fit in fits[0].items()}

    def fit_with_cut(self, stage: Stage, units: SelectableUnits, reading: Stage, count: int) -> dict[str, Fit]:
        """Fit a stage in place, and set all units to zero but those from which the reader can best write its targets.

        Args:
            reading: the stage of the reader of the units.
            count: the number of units that stay.
        """
        fits = self.fit(stage)
        modules = submodules(self.fused, (*units.outputs, units.reader.name))
        if count < len(units.inputs):
            states = [copy_states(modules)]
            train, validation = (
                reader_moments(self._reader_rows(reading, units, modules, states, split, 0, share))[1]
                for split, share in zip(self.splits, (1.0, VALIDATION_SHARE), strict=True)
            )
            kept = chosen_units(train, units.inputs, count, with_bias=units.reader.bias is not None)
            cut_units(modules, stage.linears, units, kept, train, validation)
        return fits

    def _matches_all(self, stage: Stage, by_option: Sequence[Sequence[GramMatrix]]) -> bool:
        """Return whether the current layers write the targets of every option."""
        return all(
            matches_targets(linear, self.fused.get_submodule(linear.name), targets)
            for option in by_option
            for linear, targets in zip(stage.linears, option, strict=True)
        )

    def _solve(self, stage: Stage, moments: Sequence[Sequence[GramMatrix]]) -> dict[str, Fit]:
        """Fit every linear map of a stage, given the training and the validation moments of each."""
        return {
            linear.name: fit_layer(linear, self.fused.get_submodule(linear.name), *pair)
            for linear, *pair in zip(stage.linears, *moments, strict=True)
        }

    def _moments(self, stage: Stage, split: Split, options: Sequence[int | None]) -> list[list[GramMatrix]]:
        """Return the moments of every linear map, option by option (None: the mean; otherwise one parent)."""
        inputs = HookPoint(stage.linears[0].name, "input", stage.linears[0].reads[0])
        totals: list[GramMatrix | None] = [None] * len(stage.linears)
        mean_weights = split.common_shares if len(options) > 1 else []  # of the first option, the mean
        for batch, shares in zip(split.batches, split.shares, strict=True):
            activations = self.models[0].observe([inputs, *stage.stream], batch)
            weights = [self._row_weights(linear, activations[inputs], batch) for linear in stage.linears]
            targets = self._targets(stage, activations, batch, shares, options)
            totals = [
                accumulate(total, gram_matrix(_to_rows(activations[inputs]), by_option, row_weights, mean_weights))
                for total, row_weights, *by_option in zip(totals, weights, *targets, strict=True)
            ]
        sums = sum_over_processes([total for total in totals if total])
        return [list(option) for option in zip(*(total.split_maps() for total in sums), strict=True)]

    def _reader_rows(
        self,
        reading: Stage,
        units: SelectableUnits,
        modules: Modules,
        states: Sequence[Mapping[str, Parameters]],
        split: Split,
        first: int,
        share: float,
    ) -> Iterator[ReaderRows]:
        """Yield, batch by batch, what the reader reads from the means and from all options, and what it should write.

        If there are many rows, a sample of them is used.

        Args:
            states: the tensors of `modules` for every option, the means first.
            first: the first option of those side by side.
            share: the share of the usual number of rows.
        """
        inputs = HookPoint(units.reader.name, "input", units.reader.reads[0])
        candidates = units.inputs.numel() * (len(states) - first)
        rows = row_count(candidates, share)
        batches = split.first(partial(token_count, self.models[0].model.config), rows / MIN_DRAWN).batches
        for seed, (batch, shares) in enumerate(zip(batches, split.shares, strict=False)):
            by_option: list[Tensor] = []
            for state in states:
                load_states(modules, state)
                activations = self.models[0].observe([inputs, *reading.stream], batch)
                if not by_option:  # all options give the same rows
                    row_weights = self._row_weights(units.reader, activations[inputs], batch)
                    drawn, weights = importance_sample(row_weights, rows / len(batches), seed)
                by_option.append(_to_rows(activations.pop(inputs), drawn))
            (targets,) = self._targets(reading, activations, batch, shares, [None])
            target = targets[reading.linears.index(units.reader)][drawn]
            means = by_option[0]
            side_by_side = torch.cat(by_option[first:], 1)
            by_option.clear()  # before the caller multiplies them
            yield ReaderRows(means, side_by_side, target, weights.to(target))

    def _targets(
        self,
        stage: Stage,
        activations: Mapping[HookPoint, Tensor],
        batch: Batch,
        shares: Shares,
        options: Sequence[int | None],
    ) -> list[list[Float[Tensor, "row writes"]]]:
        """Return the targets of every linear map, option by option.

        A target is the parents' output plus the drift of the stream: the parents' stream minus that of the fused model.

        Args:
            activations: the activations of the fused model.
        """
        points = stage.output_points()
        fused_stream = sum(_to_rows(activations[point]) for point in stage.stream)
        by_parent = []
        for parent in self.models[1:]:
            observed = parent.observe([*points, *stage.stream], batch)
            drift = (sum(_to_rows(observed[point]) for point in stage.stream) - fused_stream) / stage.factor
            by_parent.append([_to_rows(observed[point]) + drift for point in points])
        samples, _ = row_positions(observed[points[0]], batch, points[0].name)
        row_shares = shares.to(samples.device)[:, samples]
        return [
            [weighted_rows(row_shares, outputs) for outputs in zip(*by_parent, strict=True)]
            if option is None
            else by_parent[option]
            for option in options
        ]

    def _row_weights(self, linear: Linear, values: Tensor, batch: Batch) -> Float[Tensor, " row"]:
        """Return the importance of every row of a linear map's inputs, as `weights_at` does."""
        _, positions = row_positions(values, batch, linear.name)
        importance = self.importance.get(linear.name)
        return torch.ones(len(positions)) if importance is None else weights_at(positions, importance)


def _to_rows(
    values: Float[Tensor, "*samples unit"], drawn: Int[Tensor, " drawn"] | None = None
) -> Float[Tensor, "row unit"]:
    """Return all rows, or those that were drawn, in the precision of the fit."""
    rows = values.reshape(-1, values.shape[-1])
    rows = rows if drawn is None else rows[drawn.to(rows.device)]
    return rows.to(compute_dtype(rows.dtype))
