"""Layer by layer, from input to output: the linear map from what the fused model sees to what its parents give.

The mean of aligned weights drifts: each layer of it reads a little less of what its parents' layers read, and the error
grows with depth. Here every linear map is fitted by ridge regression from the fused model's own inputs, the layers
before it already fitted, to the weighted mean of the aligned parents' outputs, pulled towards the mean of their
weights; what writes into the residual stream also makes good how far the stream has drifted. A token counts as much as
it matters to what the parents say (`sensitivity`). Unlabelled samples, no descent.
(RegMean, Jin et al., 2212.09849, regresses onto each parent's outputs from that parent's own inputs, for models that
share an initialisation.)

Hidden units and heads need not be means at all: half-alike ones average to something that is neither. Of every parent's
own, and of heads the means, as many are taken as the layer has, those that together explain the branch's output best
(`units`), if better than the means do; what reads them is then fitted. The last layer is fitted to what the parents say
(`output_head`).
"""

from collections.abc import Callable, Collection, Iterable, Sequence

from transformers import PreTrainedModel

from transfuse.activations.execution_order import execution_steps, prefix_lengths, steps_within_budget
from transfuse.activations.prefix_cache import PrefixCache
from transfuse.activations.token_importance import token_importance
from transfuse.base.batch import Batch, batch_size, split_batch, validation_split
from transfuse.base.cache import NO_STORE, Store
from transfuse.base.distributed import ProcessGroup, process_group
from transfuse.distillation.teacher_weighting import WeightingFn, teacher_weights, uniform
from transfuse.errors import DataError
from transfuse.merging.layer_groups import Stage, selectable_units, stages
from transfuse.merging.layers import restore_layers, save_layers, submodules
from transfuse.merging.layerwise import LayerwiseFit
from transfuse.merging.output_head import fit_output_head, output_head
from transfuse.merging.split import Fit, Split
from transfuse.network.spec import Spec

CACHE_BYTES = (
    2**30
)  # bytes remembered beside residual streams: of parts of a block, and as many of what parents show there
MAX_CANDIDATE_INPUTS = 8192  # inputs that units are chosen from, at most: the moments of so many are half a gigabyte


def least_squares(
    spec: Spec,
    fused: PreTrainedModel,
    parents: Sequence[PreTrainedModel],
    weights: Sequence[float],
    batches: Sequence[Batch],
    believe: WeightingFn = uniform,
    leave: Collection[str] = (),
    each: Callable[[Sequence[Stage]], Iterable[Stage]] = lambda stages: stages,
    store: Store = NO_STORE,
) -> dict[str, Fit]:
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
    fit, held = validation_split(batches)
    if not fit or not held:
        raise DataError("least squares needs samples to fit with and others to choose with; give two or more")
    own = [_own(process_group(), half) for half in (fit, held)]
    halves = tuple(Split(each, [teacher_weights(believe, parents, weights, batch) for batch in each]) for each in own)
    last = output_head(spec, fused)
    last = None if last and last.map.name in leave else last
    todo = stages(spec, fused, {*leave, last.map.name} if last else leave)
    if (entry := store.load("sensitivities")) is None:
        matters = token_importance(parents, [linear for stage in todo for linear in stage.linears], fit)
        store.keep("sensitivities", matters)
    else:
        matters = {name: values for name, values in entry.tensors.items() if name}
    every = [batch for half in halves for batch in half.batches]
    names = [stage.names() for stage in todo]
    order = execution_steps(fused, every[0], [linear.name for stage in todo for linear in stage.linears])
    order = steps_within_budget(order, sum(map(batch_size, every)) * (1 + len(parents)), CACHE_BYTES)
    models = [
        PrefixCache(fused, every, order),
        *(PrefixCache(parent, every, order, CACHE_BYTES // len(parents)) for parent in parents),
    ]
    sweep = LayerwiseFit(models, weights, halves, matters)
    before = prefix_lengths(order, names)
    found: dict[str, Fit] = {}
    for place, stage in enumerate(each(todo)):
        if (kept := store.load(f"stage {place}")) is not None:
            found |= restore_layers(fused, kept)
            continue
        level = before[place]
        sweep.advance(level)
        together = [each for each, its in zip(todo, before, strict=True) if its == level]
        sweep.watch(together, min((each for each in before if each > level), default=len(order)))
        units = selectable_units(spec, stage, todo[place + 1 :])
        if units and units.read.numel() * len(parents) <= MAX_CANDIDATE_INPUTS:
            reading = next(later for later in todo if units.reader in later.linears)
            changed, new = {*units.written, units.reader.name}, sweep.choose(stage, units, reading)
        else:
            changed, new = set(), sweep.fit(stage)
        save_layers(store, f"stage {place}", submodules(fused, {*changed, *new}), new)
        found |= new
    if last and (kept := store.load("readout")) is not None:
        found |= restore_layers(fused, kept)
    elif last:
        sweep.advance(len(order))
        new = {last.name: fit_output_head(last, sweep.models, halves)}
        save_layers(store, "readout", submodules(fused, new), new)
        found |= new
    return found


def _own(group: ProcessGroup, batches: Sequence[Batch]) -> list[Batch]:
    """This process's part of the samples. Raises `DataError` where some have none."""
    pieces = [piece for batch in batches for piece in split_batch(batch, -(-batch_size(batch) // group.count))]
    if len(pieces) < group.count:
        raise DataError(f"{group.count} processes have {len(pieces)} batches between them; give more samples")
    return list(group.shard(pieces))
