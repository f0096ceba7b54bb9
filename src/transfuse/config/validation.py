"""Options that contradict each other: one without an effect is a misunderstanding, not a preference."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import partial
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from transfuse.config.data_options import DataOptions, is_generated
from transfuse.config.flow_options import FlowOptions
from transfuse.config.labels import BY_NAME, Labels, refused, spelled
from transfuse.config.layer_values import numbers
from transfuse.config.literals import (
    ALIGNMENTS,
    EXACT,
    LEARNING,
    MERGE_METHODS,
    PLUGINS,
    LearningOptions,
    method_traits,
    methods_with,
)
from transfuse.config.synonyms import nearest

NOT_CARRIED = (  # carrying chooses them itself, or has no use for them
    *("weights", "align", "basis", "teacher_weighting", "objective"),
    *("head", "vocab", "positions", "settings", "grow"),
)

ENOUGH_MODELS = "give two or more, the anchor first, or one with a base and a merge of task vectors"

if TYPE_CHECKING:
    from transfuse.config.options import Options


def check_together(chosen: Options, labels: Labels) -> None:
    """Raise `ConfigError` for options that have no effect beside the others."""
    given = {name for name in chosen.model_fields_set if getattr(chosen, name) is not None}
    given |= {f"flow.{name}" for name in chosen.flow.model_fields_set if getattr(chosen.flow, name) is not None}
    refuse = partial(refused, labels)
    for name, why in unknown_methods(chosen).items():
        if chosen.spec is None and not entry_points(group=PLUGINS):  # else a file or a plugin may register it
            raise refuse(name, why)
    if chosen.align == "none" and chosen.match_on != "auto":
        raise refuse("match_on", "align none matches nothing; leave it out, or choose another align")
    for name in sorted(given):
        if name.startswith("flow.") and chosen.align != "flow":
            raise refuse(name, "only align flow takes it; leave it out, or choose align flow")
        if name in ("groups", "basis") and chosen.align not in EXACT:
            raise refuse(name, f"only align {' and '.join(EXACT)} take it; leave it out, or choose one")
        if name in (*LEARNING, "effort") and not chosen.learns and chosen.head == "anchor":
            raise refuse(name, "with head anchor, nothing is trained; leave it out")
        if name in (*LEARNING, "effort") and not chosen.learns:
            raise refuse(name, "only align learned and merge learned take it; leave it out, or choose one")
        if name in ("effort", "minutes") and (method := chosen.merging(True)) != "learned":
            why = f"maps are trained for a number of steps, and merge {method} trains no weights; give steps instead"
            raise refuse(name, why)
    chosen.check_length(labels)
    if chosen.align != "learned":  # maps are trained with any effort
        check_trains(given, chosen.learning(), labels)
    for name in sorted(given & {"flow.regularization", "flow.support"}):
        if chosen.flow.plan not in ("soft", "widening"):
            why = f"only soft plans are regularized, not {chosen.flow.plan} ones; leave it out, or choose plan soft"
            raise refuse(name, why)
    if {"flow.regularization", "flow.support"} <= given:
        raise refuse("flow.support", "it sets the regularization; give one of them")
    if {"flow.scale", "flow.support"} <= given and chosen.flow.scale != "log":
        raise refuse("flow.scale", "with a support, only log has an effect; leave it out, or choose log")
    if "flow.heads" in given and chosen.flow.heads == "aware" and chosen.flow.queries == "joint":
        raise refuse("flow.heads", "queries joint has one plan over all heads; leave it out, or choose queries shared")
    weighted = chosen.flow.policy in ("scalar", "matrix")
    for name in ("flow.transform", "flow.values", *(() if weighted else ("flow.tokens", "flow.max_loss"))):
        if name in given and chosen.match_on == "weights":
            raise refuse(name, "weights are matched without samples; leave it out, or choose match_on activations")
    for name in ("flow.cost", "flow.scale", "flow.transform"):
        if name in given and chosen.flow.plan == "uniform":
            raise refuse(name, "a uniform plan compares no units; leave it out, or choose another plan")
    if "density" in given and not method_traits(chosen.merge).sparse:
        raise refuse("density", f"only merge {', '.join(methods_with('sparse'))} take it; leave it out, or choose one")
    if is_negative(chosen) and not sums_task_vectors(chosen):
        what = "only task vectors that are summed take negative numbers"
        summed = " or ".join(methods_with("summed"))
        raise refuse("weights", f"{what}; choose merge {summed}, or task_weights sum with ties or dare-ties")
    if "grow" in given and "adapter_out" in given:
        raise refuse("grow", "an adapter has the shape of the anchor; leave grow or adapter_out out")
    if chosen.align == "flow" and chosen.match_on == "both":
        raise refuse("match_on", "align flow matches on activations or on weights, not on both; choose one")


def is_negative(chosen: Options) -> bool:
    """Return whether a weight is negative for some tensor."""
    return any(number < 0 for weight in chosen.weights or () for number in numbers(weight))


def sums_task_vectors(chosen: Options) -> bool:
    """Return whether task vectors are added by weights that count as given."""
    traits = method_traits(chosen.merge)
    summed = chosen.task_weights == "sum" or (chosen.task_weights == "auto" and traits.summed)
    return summed and traits.needs_base


def check_trains(given: Collection[str], learning: LearningOptions, labels: Labels) -> None:
    """Raise `ConfigError` for options of training steps where there are none."""
    for name in ("learning_rate", "augment"):
        if name in given and not learning.trains:
            raise refused(labels, name, "effort quick does not train; leave it out, or choose another effort")


def check_carry(given: Collection[str], data: bool, labels: Labels = BY_NAME) -> None:
    """Raise `ConfigError` for options that carrying a fine-tune does not take, or that need samples.

    Args:
        given: the names of the options, `keep` among them if there are samples to keep.
        data: whether there are samples of the task.
    """
    for name in given:
        if name in NOT_CARRIED:
            raise refused(labels, name, "carrying takes no such option; leave it out")
        if not data and name in ("keep", "effort", *LEARNING):
            advice = f"give {spelled(labels, 'data')}, too, or leave it out"
            raise refused(labels, name, f"only layers that are fitted to samples take it; {advice}")


def check_mapped(chosen: Options, models: int, labels: Labels = BY_NAME) -> None:
    """Raise `ConfigError` unless the maps between models can be written, which are those of one pair."""
    refuse = partial(refused, labels, "maps")
    if chosen.align != "exact":
        raise refuse("only align exact has maps between saved models; leave it out, or choose exact")
    if models != 2:
        raise refuse("maps lead from one model to another; give two models, or leave it out")
    if chosen.basis == "common":
        raise refuse("maps lead to the anchor, not to a common basis; leave basis out")


def carry_merging(data: bool) -> str:
    """Return the merge method of carrying a fine-tune, with or without samples of its task."""
    return "learned" if data else "mean"


def unknown_methods(chosen: Options) -> dict[str, str]:
    """Return what is wrong with the names of the alignment and of the merge method, where no such method exists."""
    unknown = {}
    for option, known in (("align", tuple(ALIGNMENTS)), ("merge", ("auto", *MERGE_METHODS))):
        name = getattr(chosen, option)
        if name not in known:
            near = nearest(name, known)
            suggestion = f"; did you mean {near}?" if near else ""
            unknown[option] = f"{name[:200]!r} is not one of {', '.join(known)}{suggestion}"
    return unknown


def check_base(chosen: Options, base: bool, data: bool, labels: Labels = BY_NAME) -> None:
    """Raise `ConfigError` for options that need a base model where there is none, or that have no use for it."""
    methods = ", ".join(sorted(methods_with("needs_base")))
    refuse = partial(refused, labels)
    base_flag = spelled(labels, "base")
    if not base:
        if method_traits(chosen.merge).needs_base:
            raise refuse(
                "merge",
                f"{chosen.merge} merges differences from a base model; give {base_flag}, the model that all of these"
                " were fine-tuned from, or choose mean or slerp, which need none",
            )
        for name in sorted(chosen.model_fields_set & {"task_scale", "task_weights"}):
            raise refuse(name, f"only merge {methods} take it; leave it out, or choose one, with {base_flag}")
        return
    if (method := chosen.merging(data)) != "learned" and not method_traits(method).needs_base:
        raise refuse("base", f"merge {method} has no use for it; leave it out, or choose merge {methods}")
    if chosen.grow is not None:
        raise refuse("grow", "task vectors have the shape of the base; leave grow or base out")
    if chosen.align not in ("none", "exact"):
        raise refuse("base", f"align {chosen.align} has no use for it; leave it out, or choose align none or exact")
    if chosen.basis == "common":
        raise refuse("basis", "with a base, models are aligned to the anchor; leave basis out")
    if chosen.vocab != "same":
        raise refuse("vocab", f"models merged with {base_flag} need one vocabulary; leave vocab or base out")


def fewest_models(merge: str, base: bool) -> int:
    """Return how many models are merged at least. A single one has a task vector if there is a base."""
    return 1 if base and method_traits(merge).needs_base else 2


def check_read(values: Mapping[str, Any], *sources: Any, labels: Labels = BY_NAME) -> None:
    """Raise `ConfigError` for options of reading samples where models generate all. Generated texts are cut too.

    Args:
        sources: where the samples come from; None: there are none.
    """
    given = [source for source in sources if source is not None]
    if not given or not all(map(is_generated, given)):
        return
    for name in DataOptions.model_fields:
        if name not in ("block_size", "stride") and values.get(name) not in (None, False):
            raise refused(labels, name, "it says what to read, but data generated reads nothing; leave it out")


def check_data(chosen: Options, data: bool, labels: Labels = BY_NAME) -> None:
    """Raise `ConfigError` for options that need samples where there are none, or have no effect on them."""
    refuse = partial(refused, labels)
    data_flag, merge_flag, align_flag = (spelled(labels, name) for name in ("data", "merge", "align"))
    asks_parents = chosen.align == "learned" and chosen.objective == "parents"
    if "teacher_weighting" in chosen.model_fields_set and chosen.merging(data) == "mean" and not asks_parents:
        raise refuse(
            "teacher_weighting",
            f"it has no effect here; it needs {data_flag}, and {merge_flag} least-squares or learned, or {align_flag}"
            " learned; leave it out, or give these",
        )
    if chosen.head == "anchor" and "learned" in (chosen.merge, chosen.align):
        raise refuse(
            "head",
            f"training follows the predictions of all parents, and with {spelled(labels, 'head')} anchor the others"
            f" have none; choose {merge_flag} least-squares or mean",
        )
    method = chosen.merging(data)
    if chosen.grow is not None and not data:
        raise refuse("grow", f"samples decide which units the result has; give {data_flag}")
    if chosen.grow is not None and method not in ("least-squares", "learned"):
        why = f"only merge least-squares and learned take it, not {method}; choose one, or leave grow out"
        raise refuse("grow", why)
    if chosen.layers().varies and method in ("least-squares", "learned"):
        why = f"merge {method} takes one weight per model, not one per layer; give numbers, or choose merge mean"
        raise refuse("weights", why)
    if data:
        return
    for name in (*DataOptions.model_fields, "samples"):
        if getattr(chosen, name) not in (None, False):
            raise refuse(name, f"it says what to read; give {data_flag}, or leave it out")
    for name in ("max_loss", "tokens", "transform", "values"):
        if getattr(chosen.flow, name) != FlowOptions.model_fields[name].default:
            advice = f"give {data_flag}, or leave it out"
            raise refuse(f"flow.{name}", f"without samples, weights are matched; {advice}")
    if method_traits(chosen.merge).needs_data:
        raise refuse("merge", f"{chosen.merge} needs samples; give {data_flag}, or choose mean")
    for name in sorted(chosen.model_fields_set & {*LEARNING, "effort"}) if chosen.align != "learned" else ():
        if getattr(chosen, name) is not None:
            why = f"only align learned and merge learned take it, and these need samples; give {data_flag}"
            raise refuse(name, why)
    if chosen.align == "learned":
        raise refuse("align", f"{chosen.align} needs samples; give {data_flag}, or choose exact")
    if chosen.align != "none" and chosen.match_on in ("activations", "both"):
        raise refuse("match_on", f"{chosen.match_on} needs samples; give {data_flag}, or choose weights")
