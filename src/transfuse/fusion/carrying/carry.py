"""Carry a fine-tune to another base: what a tuned model learned over its base, in an independently trained base.

The base is aligned to the new base by the exact symmetries, and the tuned model follows by the same maps. Then all
three compute in one basis, and the result is `new base + tuned - base`. Without samples, these are weights (a task
vector, as Ilharco et al. define it, 2212.04089, but carried first). With samples, they are outputs: every layer is
fitted to what the new base computes plus the change that tuning made there, and the head to the tuned model's
predictions. On samples of what the new base is to keep, layers are fitted to what it computes itself. Then all weights
are trained to the same targets (`merging.training.learned_carry`).

If the new base is larger, the base and the tuned model get its sizes first, without a change of their functions. If
it is narrower, no exact maps lead to it. The tuned model then teaches it by its predictions, and nothing is aligned: a
start from transport maps was no better than the new base itself (docs/log.md).
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from transformers import PreTrainedModel

from transfuse.alignment.exact.follow import follow
from transfuse.alignment.function_check import check_functions
from transfuse.alignment.interface import AlignContext, Alignment
from transfuse.alignment.methods import ALIGNMENT_METHODS
from transfuse.base.batch import batch_size
from transfuse.base.progress import Progress, as_progress, silent
from transfuse.base.timing import Stopwatch
from transfuse.base.torch_settings import own_torch_settings
from transfuse.checkpoint.reading.given_models import check_given
from transfuse.checkpoint.reading.load import Model
from transfuse.checkpoint.writing.copied_files import carried_files
from transfuse.checkpoint.writing.leftovers import file_record
from transfuse.config.settings import memory_bytes
from transfuse.config.validation import check_read
from transfuse.data.load import data_name, split_of, warn_of_test_split
from transfuse.data.text.generation import given_or_generated
from transfuse.fusion.adapter import AdapterBase
from transfuse.fusion.cache_keys import no_cache
from transfuse.fusion.calibration import calibrate, opened, recorded, sample_budget
from transfuse.fusion.carrying.processor import processor_source, with_generation_of
from transfuse.fusion.carrying.requirements import (
    NEW_BASE,
    ROLES,
    UNTRAINED_MERGE,
    carry_estimate,
    carry_options,
    check_differs,
    names_by_role,
    options_for,
)
from transfuse.fusion.fuse import merge
from transfuse.fusion.matched import Matched
from transfuse.fusion.models.inputs import Inputs, open_models
from transfuse.fusion.models.shared_base import check_descendants, of_one_base
from transfuse.fusion.other_processors import warned_of_processors
from transfuse.fusion.planning.data_memory import check_readable_samples
from transfuse.fusion.planning.plan import Estimate
from transfuse.fusion.planning.with_data import DataEstimate
from transfuse.fusion.result import Fusion
from transfuse.merging.fitting.fit_data import CarryTargets
from transfuse.network.model import Network

WEIGHTS = (1.0, -1.0, 1.0)  # of what they compute
OWN_BASE = "give the model that was fine-tuned"
ANSWERS = (0.0, 0.0, 1.0)  # of what they predict on the samples


def carry(
    base: Model,
    tuned: Model,
    new_base: Model,
    data: Any = None,
    keep: Any = None,
    progress: Progress | bool = silent,
    processor: Any = None,
    max_memory: int | str | None = None,
    **options: Any,
) -> Fusion:
    """Put what a fine-tune learned into another base of the same architecture, whose sizes may differ.

    Args:
        base: the model that was tuned: a checkpoint directory, a Hub name or a loaded model.
        tuned: a fine-tune of it, perhaps with another head, which the result then has.
        new_base: the model that receives the change.
        data: unlabeled samples of the task, as for `fuse`; "generated": texts by the tuned model, if it is a causal
            language model. None: the difference of the weights is added.
        keep: unlabeled samples of what the new base is to keep: on these, layers are fitted to what it computes itself.
            "generated": texts by the new base.
        progress: shows progress; True: on the terminal or in the notebook. Silent by default.
        processor: prepares `data` and is saved with the result; None: the tokenizer of `tuned`, or the image processor
            of `new_base`.
        max_memory: memory limit, as bytes or "8GB".
        options: fields of `Options` that apply: effort, minutes or steps of training, samples, batch_size, seed, ...

    Returns:
        The result; its `save` writes the checkpoint.

    Raises:
        TransfuseError: a model cannot be used; the message says which, and what to do.
    """
    matched = match_for_carry(base, tuned, new_base, data, keep, progress, processor, max_memory, **options)
    return carried(matched, progress, processor)


def carried(matched: Matched, progress: Progress | bool = silent, processor: Any = None) -> Fusion:
    """Return the result of carrying, given the models in one basis."""
    fusion = merge(matched, progress, processor)
    new_base, base, tuned = (origin.path for origin in fusion.origins)
    roles = dict(zip(ROLES, (new_base, base, tuned), strict=True))
    targets = matched.carry
    facts = {"carried": roles, "keep": targets and targets.source, "kept_samples": 0}
    facts |= file_record(carried_files(new_base, tuned, matched.processor_of))
    if targets:
        facts["kept_samples"] = sum(map(batch_size, targets.kept))
        facts |= {"keep_split": targets.split} if targets.split else {}
    model = with_generation_of(matched.networks[-1].model, fusion.model)
    return replace(fusion, fused=model, record=fusion.record | facts, processor_of=matched.processor_of)


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
    fitted = chosen if chosen.merge == "mean" else chosen.model_copy(update={"merge": UNTRAINED_MERGE})  # with any head
    models = [tuned, new_base, base]
    new_name, base_name, tuned_name = names_by_role(roles)
    names = [tuned_name, new_name, base_name]
    inputs = _in_order(
        open_models(models, fitted, data is not None, progress, limit, False, check, like=NEW_BASE, names=names)
    )
    new, old, changed = inputs.networks
    if not any(inputs.borrowed):  # a new head may be all that was tuned
        check_differs(changed, old, "give a fine-tune")
        check_differs(changed, new, "give another new base")
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
    if chosen.align == "none":
        descendant = (old.spec, old.tensors, [changed.tensors])
        alignments = (Alignment(new.spec, new.tensors, new.tensors),) * 2  # no difference is added
    else:
        alignments = _alignments(inputs.networks, both, inputs.borrowed)
        first, second = alignments
        descendant = (first.spec, first.carried, [second.carried])
    if not of_one_base((base, tuned)):
        check_descendants(*descendant, [changed.name], old.name, OWN_BASE)
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


def _in_order(opened: Inputs) -> Inputs:
    """Return the new base first, then the base and the tuned model, given the tuned model first.

    All have the class of the tuned model. What a model lacks of it is in `borrowed`.
    """
    order = (1, 2, 0)
    networks = [opened.networks[index] for index in order]
    return replace(
        opened,
        models=[network.model for network in networks],
        networks=networks,
        origins=tuple(opened.origins[index] for index in order),
    )


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
