"""Match the units of models, given as paths or loaded, and transform the models into one basis."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from datasets import Dataset, DatasetDict
from transformers import PreTrainedModel

from transfuse.alignment.exact.model_maps import ModelMaps, model_maps
from transfuse.alignment.interface import AlignContext, Alignment
from transfuse.base.cache import NO_STORE, Store
from transfuse.base.distributed import process_group
from transfuse.base.lazy import Tensors
from transfuse.base.progress import Progress, as_progress, silent
from transfuse.base.timing import Stopwatch
from transfuse.checkpoint.load import Model
from transfuse.config.data_options import is_generated
from transfuse.config.make import make
from transfuse.config.options import Options
from transfuse.config.settings import memory_bytes
from transfuse.config.validation import check_mapped, check_read
from transfuse.data.generation import generated_samples
from transfuse.data.load import open_samples, warn_of_test_split
from transfuse.data.processors import model_processor
from transfuse.data.splits import CALIBRATION
from transfuse.distillation.history import History
from transfuse.errors import ConfigError
from transfuse.fusion.adapter import AdapterBase
from transfuse.fusion.align import align, aligned_base
from transfuse.fusion.cache_keys import CacheKeys, cache_keys
from transfuse.fusion.calibration import calibrate, reads_samples, resolve_match_on, sample_budget
from transfuse.fusion.carry_plan import OTHER_OPTIONS
from transfuse.fusion.compatible import check_models_given
from transfuse.fusion.data_memory import check_readable_samples
from transfuse.fusion.depth_samples import DepthSamples
from transfuse.fusion.grow import GrowthPlan, growth_plan, shortfall
from transfuse.fusion.inputs import Inputs, open_models
from transfuse.fusion.other_processors import OtherProcessor, warned_of_processors
from transfuse.fusion.plan import Estimate
from transfuse.fusion.plan_data import DataEstimate, data_estimate
from transfuse.fusion.shared_base import resolve_alignment, shared_base_line
from transfuse.merging.split import CarryTargets
from transfuse.network.model import Network


@dataclass(frozen=True)
class Matched:
    """Hold models in one basis that are ready to be merged.

    Attributes:
        inputs: the models, the anchor first.
        weights: one per model; they sum to one.
        context: what units were matched on, and the prepared calibration batches.
        data: the calibration samples, or None.
        alignments: one per model after the anchor, in order.
        history: the training history of the maps; None if no maps were trained.
        stores: the caches of this fusion.
        seconds: the time in seconds for loading, preparing samples and aligning.
        workspace: a temporary folder for maps of streamed models, removed with this object; None: no such folder.
        base_correlation: how the weights of models of one base correlate, which were therefore not aligned; None: they
            share no base, or the user chose the alignment.
        base: the tensors of the base in the anchor's basis; None: no base was given.
        carry: what layers are fitted to, where a fine-tune is carried; None: what the models compute.
        adapter_base: the model that adapters are differences from: the base, or else the anchor.
        growth: the sizes of a result that grows; None: it has the sizes of the anchor.
        other_processors: models whose processors differ from the anchor's; None: they were not compared, because no
            samples were read.
    """

    inputs: Inputs
    weights: Sequence[float]
    options: Options
    context: AlignContext
    data: Any
    alignments: tuple[Alignment, ...]
    history: History | None
    stores: CacheKeys
    seconds: dict[str, float]
    workspace: TemporaryDirectory[str] | None = None
    base_correlation: float | None = None
    base: Tensors | None = None
    carry: CarryTargets | None = None
    adapter_base: AdapterBase | None = None
    growth: GrowthPlan | None = None
    other_processors: tuple[OtherProcessor, ...] | None = None

    def __repr__(self) -> str:
        """Return the models, how they were aligned, and what to do next, in one line."""
        names = ", ".join(network.name for network in self.networks)
        return f"Matched {names}: aligned by {self.options.align}, on {self.context.match_on}; merge() fuses them"

    @property
    def answer_weights(self) -> Sequence[float]:
        """Return the weights of the models' predictions."""
        return self.weights if self.carry is None else self.carry.answer_weights

    @property
    def uses_samples(self) -> bool:
        """Return whether samples changed the result; otherwise they are held out."""
        return self.data is not None and bool(self.context.batches or self.inputs.depths)

    @property
    def anchor(self) -> PreTrainedModel:
        """Return the first model, whose basis and shape the fused model has."""
        return self.inputs.anchor

    @property
    def networks(self) -> Sequence[Network]:
        """Return the models as networks, the anchor first."""
        return self.inputs.networks

    def maps(self) -> ModelMaps:
        """Return the maps from the units of the second model to those of the first, as both are saved.

        Where a fine-tune is carried, these lead from the base to the new base.

        Raises:
            ConfigError: there are more than two models, or they were not aligned by their exact symmetries.
        """
        if self.carry is not None and self.options.align == "none":
            raise ConfigError(OTHER_OPTIONS)
        if self.base_correlation is not None:
            raise ConfigError("maps: models of one base are not aligned; choose align exact, or leave maps out")
        check_mapped(self.options, 2 if self.carry else len(self.networks), {})
        names = {"anchor": self.networks[0].name, "source": self.networks[1].name}
        facts = names | {"architecture": type(self.anchor).__name__, "match_on": self.context.match_on}
        return model_maps(self.alignments[0], self.networks[0], self.networks[1], facts)


@torch.inference_mode(False)  # training needs gradients, wherever it is called
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
    check_read(options, {}, data)
    limit = memory_bytes(max_memory)
    check_models_given(models)
    warn_of_test_split(data)
    source = data
    named = isinstance(source, str | Path | Dataset | DatasetDict)  # the record names these as they are
    if is_generated(data) or data is None:
        named = False
    elif not named or reads_samples(chosen, resolve_match_on(chosen, data)):
        data = open_samples(data, chosen, CALIBRATION)  # once, for the check of memory and for the fusion
    watch = Stopwatch()

    def estimate(weights: Estimate, mapped: bool) -> DataEstimate | None:
        return data_estimate(weights, models[0], data, processor, mapped)

    check = partial(check_readable_samples, estimate, limit, progress.warn)
    folder = None if cache is None else Path(cache)
    depth_samples = None
    if data is not None:
        depth_samples = DepthSamples(models, data, chosen, processor, progress, folder, removes_blocks=base is None)
    inputs = open_models(models, chosen, data is not None, progress, limit, stream, check, folder, base, depth_samples)
    base_network = inputs.networks[0] if inputs.base is None else inputs.base
    adapter_base = AdapterBase(models[0] if base is None else base, base_network.model)
    if chosen.adapter_out is not None:
        adapter_base.check()
    family = inputs.networks if inputs.base is None else [*inputs.networks, inputs.base]
    borrowed = inputs.base_borrowed.union(*inputs.borrowed)
    chosen, correlation = resolve_alignment(chosen, family, borrowed=borrowed)
    if correlation is not None:
        progress.warn(shared_base_line(correlation))
    weights = chosen.normalized_weights(len(models))
    plan = None if chosen.grow is None else growth_plan(inputs.models, chosen.grow)
    if plan is not None and chosen.grow is not None and (line := shortfall(plan, chosen.grow)):
        progress.warn(line)
    others = None
    if data is not None and (inputs.depths or reads_samples(chosen, resolve_match_on(chosen, data))):
        others = warned_of_processors(models, inputs.anchor, chosen, progress, processor)
    watch.lap("loading")
    if is_generated(data):
        tokenizer = model_processor(models[0], inputs.anchor, processor)
        writers = [network.model for network in inputs.networks]
        data = generated_samples(writers, tokenizer, sample_budget(chosen), chosen.seed, progress)
    context = calibrate(inputs.networks, models[0], data, chosen, processor, progress)
    watch.lap("preparing samples")
    workspace = TemporaryDirectory(prefix="transfuse-") if inputs.streamed and cache is None else None
    stores = _stores(cache if workspace is None else workspace.name, inputs, chosen, context)
    if workspace is not None:  # what one run uses once is not written
        stores = replace(stores, joint=NO_STORE)
    if limit is not None:  # statistics may use the memory that the models do not
        context = replace(context, room=max(limit - inputs.needed_bytes, 1))
    aligned_to = chosen if inputs.base is None else chosen.model_copy(update={"basis": "anchor"})
    kept = (inputs.rows, inputs.borrowed)
    alignments, history = align(inputs.networks, weights, context, aligned_to, *kept, progress, stores)
    base_tensors = aligned_base(inputs, alignments, context, aligned_to, progress)
    watch.lap("aligning")
    return Matched(
        inputs,
        weights,
        chosen,
        context,
        source if named else data,
        tuple(alignments),
        history,
        stores,
        watch.laps,
        workspace,
        correlation,
        base_tensors,
        growth=plan,
        other_processors=others,
        adapter_base=replace(adapter_base, batches=context.batches, device=chosen.torch_device()),
    )


def _stores(folder: str | Path | None, inputs: Inputs, options: Options, context: AlignContext) -> CacheKeys:
    """Return the caches of this fusion. All processes use the folder of the first."""
    shared_folder = process_group().all_gather(folder)[0]
    store = Store(None if shared_folder is None else Path(shared_folder), spill=inputs.streamed)
    specs = [network.spec for network in inputs.networks]
    return cache_keys(store, inputs.origins, specs, options, context, inputs.base_origin, inputs.depths)
