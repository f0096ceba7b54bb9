"""Bring a new base, a base and its fine-tune into the basis of the new base, and say what layers are fitted to."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from transformers import PreTrainedModel

from transfuse.alignment.exact.follow import follow
from transfuse.alignment.function_check import check_functions
from transfuse.alignment.interface import AlignContext, Alignment
from transfuse.alignment.methods import ALIGNMENT_METHODS
from transfuse.base.distributed import check_one_process
from transfuse.base.progress import Progress, as_progress, silent
from transfuse.base.timing import Stopwatch
from transfuse.base.torch_settings import own_torch_settings
from transfuse.checkpoint.reading.given_models import check_given
from transfuse.checkpoint.reading.load import Model
from transfuse.config.options import Options
from transfuse.config.settings import memory_bytes
from transfuse.config.validation import check_read
from transfuse.data.load import data_name, split_of, warn_of_test_split
from transfuse.data.text.generation import given_or_generated
from transfuse.fusion.adapter import AdapterBase
from transfuse.fusion.cache_keys import no_cache
from transfuse.fusion.calibration import calibrate, opened, recorded, sample_budget
from transfuse.fusion.carrying.plan import carry_estimate
from transfuse.fusion.carrying.processor import processor_source
from transfuse.fusion.carrying.requirements import (
    NEW_BASE,
    UNTRAINED_MERGE,
    carry_options,
    check_differs,
    names_by_role,
    options_for,
)
from transfuse.fusion.matched import Matched
from transfuse.fusion.models.compatible import empty_model
from transfuse.fusion.models.inputs import Inputs, open_models
from transfuse.fusion.models.shared_base import check_descendants, of_one_base
from transfuse.fusion.other_processors import warned_of_processors
from transfuse.fusion.planning.data_memory import check_readable_samples
from transfuse.fusion.planning.plan import Estimate
from transfuse.fusion.planning.with_data import DataEstimate
from transfuse.fusion.sizes.changes import depth
from transfuse.fusion.sizes.idle_blocks import idle_tensors
from transfuse.merging.fitting.fit_data import CarryTargets
from transfuse.network.model import Network

WEIGHTS = (1.0, -1.0, 1.0)  # of what they compute
OWN_BASE = "give the model that was fine-tuned"
ANSWERS = (0.0, 0.0, 1.0)  # of what they predict on the samples


@own_torch_settings()
def match_for_carry(
    base: Model,
    tuned: Model,
    new_base: Model,
    data: Any = None,
    keep: Any = None,
    progress: Progress | bool = silent,
    processor: Any = None,
    max_memory: int | str | None = None,
    **options: Any,
) -> Matched:
    """Bring the new base, the base and the tuned model into the basis of the new base.

    Args and Raises: as for `carry`.
    """
    check_one_process("carrying")
    for samples in (data, keep):
        warn_of_test_split(samples)
    progress = as_progress(progress)
    chosen = carry_options(options, data is not None, keep is not None)
    check_read(options, data, keep)
    chosen = options_for(chosen, new_base, base, tuned, data is not None)
    given = (data, keep)
    data, keep = (opened(samples, chosen) for samples in given)
    roles = (new_base, base, tuned)
    check_given(roles, names_by_role(roles))
    watch = Stopwatch()
    limit = memory_bytes(max_memory)

    def estimate(weights: Estimate, mapped: bool) -> DataEstimate | None:
        source = processor_source(new_base, tuned, type(weights.models[0]).__name__)
        return carry_estimate(replace(weights, options=chosen), source, data, keep, processor)

    check = partial(check_readable_samples, estimate, limit, progress.warn)
    inputs = _opened(roles, chosen, data is not None, progress, limit, check)
    new, _, changed = inputs.networks
    adapter_base = AdapterBase.of(new_base, inputs.anchor, chosen)
    source = processor_source(new_base, tuned, type(inputs.anchor).__name__)
    others = None
    if data is not None:
        compared = (source, *(model for model in roles if model is not source))
        others = warned_of_processors(compared, inputs.anchor, chosen, progress, processor)
    watch.lap("loading")
    budget, seed = sample_budget(chosen), chosen.seed
    data, keep = (
        given_or_generated(samples, [writer.model], own, processor, budget, seed, progress)
        for samples, writer, own in ((data, changed, source), (keep, new, new_base))
    )
    context, kept = (
        calibrate(inputs.networks, source, samples, chosen, processor, progress) for samples in (data, keep)
    )
    watch.lap("preparing samples")
    batches = [*context.batches, *kept.batches]
    both = replace(context, batches=batches, progress=progress, room=inputs.room(limit))
    alignments = _aligned(inputs, chosen, both, checks_base=not of_one_base((base, tuned)))
    watch.lap("aligning")
    kept_name = data_name(recorded(given[1], keep))
    targets = CarryTargets(ANSWERS, kept.batches, not any(inputs.borrowed), kept_name, split_of(keep))
    return Matched(
        inputs=replace(inputs, borrowed=()),  # all have the head of the tuned model now
        weights=WEIGHTS,
        options=chosen,
        context=context,
        data=recorded(given[0], data),
        split=split_of(data),
        alignments=alignments,
        history=None,
        stores=no_cache(len(inputs.networks)),
        seconds=watch.laps,
        carry=targets,
        other_processors=others,
        adapter_base=adapter_base.with_samples(context.batches),
        processor_of=None if isinstance(source, PreTrainedModel) else str(source),
    )


def _opened(
    roles: tuple[Model, Model, Model],
    options: Options,
    has_data: bool,
    progress: Progress,
    limit: int | None,
    check: Callable[[Estimate, bool], bool],
) -> Inputs:
    """Return the models in the order of `ROLES`, and check that the tuned one differs from both others.

    All have the class of the tuned model, which is opened first. What a model lacks of it is in `borrowed`.
    """
    fitted = options if options.merge == "mean" else options.model_copy(update={"merge": UNTRAINED_MERGE})  # any head
    new_base, base, tuned = roles
    new_name, base_name, tuned_name = names_by_role(roles)
    models, names = (tuned, new_base, base), (tuned_name, new_name, base_name)
    found = open_models(models, fitted, has_data, progress, limit, False, check, like=NEW_BASE, names=names)
    changed, new, old = found.networks
    if not any(found.borrowed):  # a new head may be all that was tuned
        check_differs(changed, old, "give a fine-tune")
        check_differs(changed, new, "give another new base")
    if depth(empty_model(base, options).config) != depth(old.model.config):
        # What tuning changed in copies of its blocks stays out of the others.
        idle = idle_tensors(old) & idle_tensors(changed)
        changed = replace(changed, tensors={**changed.tensors, **{name: old.tensors[name] for name in idle}})
    origins = (*found.origins[1:], found.origins[0])
    return replace(
        found,
        models=[new.model, old.model, changed.model],
        networks=[new, old, changed],
        origins=origins,
        whole={2: found.whole[0]} if 0 in found.whole else {},  # the tuned model, which alone teaches
    )


def _aligned(inputs: Inputs, options: Options, context: AlignContext, checks_base: bool) -> tuple[Alignment, Alignment]:
    """Return the alignments of the base and of the tuned model to the new base.

    Args:
        checks_base: whether to refuse a model that was not tuned from the base.
    """
    new, old, changed = inputs.networks
    if options.align == "none":
        descendant = (old.spec, old.tensors, [changed.tensors])
        first = second = Alignment(new.spec, new.tensors, new.tensors)  # no difference is added
    else:
        first, second = _alignments(inputs.networks, context, inputs.borrowed)
        descendant = (first.spec, first.carried, [second.carried])
    if checks_base:
        check_descendants(*descendant, [changed.name], old.name, OWN_BASE, OWN_BASE)
    return first, second


def _alignments(
    networks: Sequence[Network], context: AlignContext, borrowed: Sequence[frozenset[str]]
) -> tuple[Alignment, Alignment]:
    """Return the alignments of the base and of the tuned model to the new base, with the tuned model's head in all."""
    new_base, base, tuned = networks
    first = ALIGNMENT_METHODS["exact"](new_base, base, context)
    second = follow(first, base, tuned)
    first, second = check_functions(networks, [first, second])
    head = {name: second.carried[name].to(first.anchor[name].dtype) for names in borrowed for name in names}
    if not head:
        return first, second
    anchor = {**first.anchor, **head}
    return replace(first, anchor=anchor, carried={**first.carried, **head}), replace(second, anchor=anchor)
