"""Match the units of models, given as paths or loaded, and transform the models into one basis."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from transfuse.alignment.interface import AlignContext
from transfuse.base.cache import NO_STORE, Store
from transfuse.base.distributed import process_group
from transfuse.base.folders import cache_folder
from transfuse.base.hashing import tensors_digest
from transfuse.base.progress import Progress, as_progress, silent
from transfuse.base.timing import Stopwatch
from transfuse.base.torch_settings import own_torch_settings
from transfuse.checkpoint.reading.load import Model
from transfuse.checkpoint.record.resized import resized_by_samples
from transfuse.config.make import make
from transfuse.config.options import Options
from transfuse.config.settings import memory_bytes
from transfuse.config.validation import check_read, fewest_models
from transfuse.data.load import split_of, warn_of_test_split
from transfuse.data.text.generation import given_or_generated
from transfuse.fusion.adapter import AdapterBase
from transfuse.fusion.align import align, aligned_base
from transfuse.fusion.cache_keys import CacheKeys, cache_keys
from transfuse.fusion.calibration import calibrate, opened, reads_samples, recorded, resolve_match_on, sample_budget
from transfuse.fusion.grow import GrowthPlan, growth_plan, shortfall
from transfuse.fusion.matched import Matched
from transfuse.fusion.models.compatible import check_models_given
from transfuse.fusion.models.inputs import Inputs, open_models
from transfuse.fusion.models.shared_base import resolve_alignment, shared_base_line, warn_of_strangers
from transfuse.fusion.other_processors import warned_of_processors
from transfuse.fusion.planning.data_memory import check_readable_samples
from transfuse.fusion.planning.with_data import data_estimate
from transfuse.fusion.sizes.samples import SizeSamples
from transfuse.merging.per_layer import PerLayer


@own_torch_settings()
def match(
    models: Sequence[Model],
    data: Any = None,
    progress: Progress | bool = silent,
    processor: Any = None,
    cache: str | Path | None = None,
    max_memory: int | str | None = None,
    stream: bool | None = None,
    base: Model | None = None,
    **options: Any,
) -> Matched:
    """Transform models into the basis of the first one.

    Args and Raises: as for `fuse`.
    """
    progress = as_progress(progress)
    chosen: Options = make(Options, options)
    check_read(options, data)
    limit = memory_bytes(max_memory)
    check_models_given(models, fewest_models(chosen.merge, base is not None))
    folder = cache_folder(cache)
    warn_of_test_split(data)
    given, data = data, opened(data, chosen)
    watch = Stopwatch()
    inputs, chosen, correlation = _opened(
        models, chosen, data, processor, progress, folder=folder, max_memory=limit, stream=stream, base=base
    )
    warn_of_strangers(inputs.networks, progress.warn)
    changed = inputs.networks[0] if inputs.base is None else inputs.base
    adapter_base = AdapterBase.of(models[0] if base is None else base, changed.model, chosen)
    weights = chosen.normalized_weights(len(models))
    growth = _growth(inputs, chosen, progress)
    others = None
    sized = resized_by_samples(inputs.resized)
    if data is not None and (sized or reads_samples(chosen, resolve_match_on(chosen, data))):
        others = warned_of_processors(models, inputs.anchor, chosen, progress, processor, data)
    watch.lap("loading")
    writers = [inputs.whole.get(number, network.model) for number, network in enumerate(inputs.networks)]
    data = given_or_generated(data, writers, models[0], processor, sample_budget(chosen), chosen.seed, progress)
    context = calibrate(inputs.networks, models[0], data, chosen, processor, progress)
    context = replace(context, room=inputs.room(limit))
    watch.lap("preparing samples")
    stores, workspace = _stores(cache, inputs, chosen, context)
    aligned_to = chosen if inputs.base is None else chosen.model_copy(update={"basis": "anchor"})
    alignments, history = align(
        inputs.networks, weights, context, aligned_to, inputs.rows, inputs.borrowed, progress, stores
    )
    base_alignment = aligned_base(inputs, alignments, context, aligned_to, progress)
    watch.lap("aligning")
    return Matched(
        inputs=inputs,
        weights=weights,
        options=chosen,
        context=context,
        data=recorded(given, data),
        split=split_of(data),
        alignments=tuple(alignments),
        history=history,
        stores=stores,
        seconds=watch.laps,
        workspace=workspace,
        base_correlation=correlation,
        base_alignment=base_alignment,
        growth=growth,
        other_processors=others,
        adapter_base=adapter_base.with_samples(context.batches),
    )


def _opened(
    models: Sequence[Model],
    options: Options,
    data: Any,
    processor: Any,
    progress: Progress,
    *,
    folder: Path | None,
    max_memory: int | None,
    stream: bool | None,
    base: Model | None,
) -> tuple[Inputs, Options, float | None]:
    """Return the models, the options with the alignment that they get, and the correlation of models of one base."""
    estimate = partial(data_estimate, source=models[0], data=data, processor=processor)
    check = partial(check_readable_samples, estimate, max_memory, progress.warn)
    size_samples = None
    if data is not None:
        size_samples = SizeSamples(models, data, options, processor, progress, folder, removes_units=base is None)
    open_for = partial(
        open_models,
        models,
        has_data=data is not None,
        progress=progress,
        max_memory=max_memory,
        stream=stream,
        check=check,
        folder=folder,
        base=base,
        size_samples=size_samples,
    )
    inputs = open_for(options)
    for name, numbers in (("weights", options.weights), ("density", options.density)):
        PerLayer.of(inputs.networks[0], name, numbers or ())  # which checks the names, before units are matched
    options, correlation = _resolved_alignment(inputs, options, progress)
    if correlation is None and inputs.base_correlation is not None:  # a matrix that had not been compared differs
        del inputs
        inputs = open_for(options.with_chosen_alignment())
    return inputs, options, correlation


def _resolved_alignment(inputs: Inputs, options: Options, progress: Progress) -> tuple[Options, float | None]:
    """Return the options with the alignment method that is used, and the correlation of models of one base."""
    family = inputs.networks if inputs.base is None else [*inputs.networks, inputs.base]
    borrowed = inputs.base_borrowed.union(*inputs.borrowed)
    origins = inputs.origins if inputs.base_origin is None else [*inputs.origins, inputs.base_origin]
    paths = [origin.path for origin in origins]
    options, correlation = resolve_alignment(options, family, paths, borrowed=borrowed)
    if correlation is not None:
        progress.warn(shared_base_line(correlation))
    return options, correlation


def _growth(inputs: Inputs, options: Options, progress: Progress) -> GrowthPlan | None:
    """Return the units that a larger result gets, with a warning if there are fewer than were asked for."""
    if options.grow is None:
        return None
    plan = growth_plan(inputs.models, options.grow)
    if line := shortfall(plan, options.grow):
        progress.warn(line)
    return plan


def _stores(
    cache: str | Path | None, inputs: Inputs, options: Options, context: AlignContext
) -> tuple[CacheKeys, TemporaryDirectory[str] | None]:
    """Return the caches of this fusion, and a temporary folder of streamed models if the user gave none.

    All processes use the folder of the first.
    """
    workspace = TemporaryDirectory(prefix="transfuse-") if inputs.streamed and cache is None else None
    folder = cache if workspace is None else workspace.name
    shared_folder = process_group().all_gather(folder)[0]
    store = Store(None if shared_folder is None else Path(shared_folder), spill=inputs.streamed)
    specs = [network.spec for network in inputs.networks]
    keeps_resized = inputs.resized and store.folder is not None  # hashes read all weights
    resized = [tensors_digest(network.tensors) for network in inputs.networks[1:]] if keeps_resized else []
    stores = cache_keys(store, inputs.origins, specs, options, context, inputs.base_origin, resized)
    if workspace is not None:  # what one run uses once is not written
        stores = replace(stores, joint=NO_STORE)
    return stores, workspace
