"""What carrying a fine-tune would match, and how much memory it takes."""

from dataclasses import replace
from typing import Any

from transfuse.base.progress import Progress, silent
from transfuse.checkpoint.reading.load import Model
from transfuse.fusion.carrying.processor import processor_source
from transfuse.fusion.carrying.requirements import NEW_BASE, carry_options, options_for
from transfuse.fusion.models.anchor_settings import warn_of_settings
from transfuse.fusion.models.compatible import check_compatible, empty_model, with_anchor_form
from transfuse.fusion.other_processors import warned_of_processors
from transfuse.fusion.planning.data_memory import check_data_memory
from transfuse.fusion.planning.plan import Estimate, FusionPlan, fusion_plan
from transfuse.fusion.planning.with_data import DataEstimate, data_estimate


def carry_estimate(
    weights: Estimate, source: Model, data: Any, keep: Any, processor: Any = None
) -> DataEstimate | None:
    """Return the estimate of the memory of carrying with samples; None without samples.

    Args:
        weights: the estimate of carrying by weights.
        source: the model whose processor prepares the samples unless `processor` is given.
    """
    task, kept = (data_estimate(weights, False, source, samples, processor) for samples in (data, keep))
    return task if task is None or kept is None else replace(task, samples=task.samples.joined(kept.samples))


def carry_plan(
    base: str,
    tuned: str,
    new_base: str,
    data: Any = None,
    keep: Any = None,
    max_memory: int | None = None,
    progress: Progress = silent,
    **options: Any,
) -> FusionPlan:
    """Return what carrying a fine-tune would match and require, from headers, configurations and the longest sample.

    Args and Raises: as for `carry`.
    """
    paths = [tuned, new_base, base]
    chosen = carry_options(options, data is not None, keep is not None)
    chosen = options_for(chosen, new_base, base, tuned, data is not None)
    stored = [empty_model(path, chosen) for path in paths]
    warn_of_settings(stored, paths, chosen, progress, NEW_BASE)
    empty = with_anchor_form(stored, paths, chosen, like=NEW_BASE)
    check_compatible(empty, paths, 0 if chosen.needs_equal_widths else NEW_BASE)
    paths, stored, empty = [*paths[1:], tuned], [*stored[1:], stored[0]], [*empty[1:], empty[0]]  # as in `ROLES`
    weights = Estimate(empty, chosen)
    plan = fusion_plan(paths, stored, weights, streamable=False, streams=False)
    source = processor_source(new_base, tuned, type(empty[0]).__name__)
    estimate = carry_estimate(weights, source, data, keep)
    if estimate is None:
        return plan
    compared = (source, *(path for path in (new_base, base, tuned) if path != source))
    warned_of_processors(compared, empty[0], chosen, progress)
    if max_memory is not None:
        check_data_memory(estimate, max_memory, silent.warn)
    return replace(plan, data=estimate.plan())
