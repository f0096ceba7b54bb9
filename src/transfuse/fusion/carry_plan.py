"""The options of carrying a fine-tune to another base, and what it requires."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from transformers import PreTrainedModel

from transfuse.base.progress import silent
from transfuse.config.make import make
from transfuse.config.options import Options
from transfuse.config.validation import carry_merging, check_carry
from transfuse.errors import ConfigError
from transfuse.fusion.compatible import Model, check_compatible, empty_model, with_anchor_form
from transfuse.fusion.data_memory import check_data_memory
from transfuse.fusion.plan import Estimate, FusionPlan, fusion_plan
from transfuse.fusion.plan_data import DataEstimate, data_estimate
from transfuse.network.compatible import check_same_widths
from transfuse.network.layout import unfused
from transfuse.network.model import Network, declaration

ROLES = ("new base", "base", "tuned")  # of the models, in the order of the record
SAME_SHAPES = "a fine-tune is carried between models of one shape; give a new base of the same configuration"
FITTED = "least-squares"  # how models are merged if nothing is trained


def carry_options(options: dict[str, Any], has_data: bool, has_keep: bool) -> Options:
    """Return the options of `fuse` that carrying amounts to.

    Raises:
        ConfigError: an option does not apply.
    """
    check_carry([*options, *(["keep"] if has_keep else [])], has_data, {"data": "data"})
    merging = carry_merging(has_data)
    if options.get("merge", merging) != merging:
        raise ConfigError("merge: carrying chooses it itself; leave it out, or choose the effort")
    fixed = {"merge": merging, "match_on": "both" if has_data else "weights"}
    uniform = {"teacher_weighting": "uniform"} if has_data else {}
    chosen: Options = make(Options, fixed | uniform | options)
    if has_data and not chosen.learning().trains:
        return chosen.model_copy(update={"merge": FITTED})
    return chosen


def with_carried_head(options: Options, models: Sequence[Model]) -> Options:
    """Return options that keep the head of the tuned model, if some model has another head or other classes."""
    empty = [model if isinstance(model, PreTrainedModel) else empty_model(model, options) for model in models]
    heads = {(type(model), tuple((model.config.id2label or {}).items())) for model in empty}
    return options if len(heads) == 1 else options.model_copy(update={"head": "anchor"})


def check_same_shapes(new_base: Network, *models: Network) -> None:
    """Raise `SpecError` unless all models have the shape of the new base."""
    for model in models:
        check_same_widths(new_base, model, "exact", SAME_SHAPES)


def carry_estimate(
    empty: Sequence[PreTrainedModel], new_base: Model, data: Any, keep: Any, options: Options, processor: Any = None
) -> DataEstimate | None:
    """Return the estimate of the memory of carrying with samples; None without samples.

    Args:
        empty: the models, whose tensors may be empty.
    """
    task, kept = (data_estimate(empty, new_base, samples, options, processor) for samples in (data, keep))
    return task if task is None or kept is None else replace(task, samples=task.samples.joined(kept.samples))


def carry_plan(
    base: str,
    tuned: str,
    new_base: str,
    data: Any = None,
    keep: Any = None,
    max_memory: int | None = None,
    **options: Any,
) -> FusionPlan:
    """Return what carrying a fine-tune would match and require, from headers, configurations and the longest sample.

    Args and Raises: as for `carry`.
    """
    paths = [tuned, new_base, base]
    chosen = with_carried_head(carry_options(options, data is not None, keep is not None), (base, tuned, new_base))
    empty = with_anchor_form([empty_model(path, chosen) for path in paths], paths, chosen)
    check_compatible(empty, paths)
    specs = [unfused(declaration(model)) for model in empty]
    networks = [Network(model, spec, {}, name=path) for model, spec, path in zip(empty, specs, paths, strict=True)]
    check_same_shapes(networks[1], networks[2], networks[0])
    plan = fusion_plan(paths, Estimate(empty, chosen), streamable=False, streams=False)
    estimate = carry_estimate(empty, new_base, data, keep, chosen)
    if estimate is None:
        return plan
    if max_memory is not None:
        check_data_memory(estimate, max_memory, silent.warn)
    return replace(plan, data=estimate.plan())
