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

from dataclasses import replace
from typing import Any

from transfuse.base.batch import batch_size
from transfuse.base.progress import Progress, silent
from transfuse.checkpoint.reading.load import Model
from transfuse.checkpoint.record.copied_files import carried_files
from transfuse.checkpoint.record.leftovers import file_record
from transfuse.fusion.carrying.match import match_for_carry
from transfuse.fusion.carrying.processor import with_generation_of
from transfuse.fusion.carrying.requirements import ROLES
from transfuse.fusion.fuse import merge
from transfuse.fusion.matched import Matched
from transfuse.fusion.result import Fusion


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
