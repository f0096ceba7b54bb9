"""Whether a source can be carried into an anchor's basis at all, said before any work is done."""

from transformers import PretrainedConfig

from transfuse.errors import SpecError
from transfuse.network.spec import Spec

# Settings that change the function but no shape.
FUNCTIONAL = (
    "hidden_act", "activation_function", "hidden_activation", "activation", "feed_forward_proj",
    "classifier_activation",
    "layer_norm_eps", "layer_norm_epsilon", "rms_norm_eps", "norm_eps", "tie_word_embeddings", "is_decoder",
    "rope_theta", "rope_parameters", "layer_types", "sliding_window", "use_sliding_window", "use_parallel_residual",
    "local_attention", "global_attn_every_n_layers", "classifier_pooling", "use_mean_pooling",
    "relative_attention_max_distance", "scale_attn_weights", "scale_attn_by_inverse_layer_idx",
    "attn_logit_softcapping", "final_logit_softcapping", "query_pre_attn_scalar", "num_experts_per_tok",
    "norm_topk_prob", "use_bidirectional_attention",
)  # fmt: skip
COUNTED = ("roberta", "xlm-roberta", "camembert", "roberta-prelayernorm")  # positions begin behind padding's number
TOWERS = ("text_config", "vision_config")
OTHER = "the other model"


def check_same_function(anchor: PretrainedConfig, source: PretrainedConfig, other: str = OTHER) -> None:
    """Raise `SpecError` where two configurations compute differently or answer differently.

    Args:
        other: what to call the source.
    """
    for name in FUNCTIONAL:
        ours, theirs = getattr(anchor, name, None), getattr(source, name, None)
        if name == "layer_types" and len(ours or ()) != len(theirs or ()):
            continue  # of another depth, which is said in other words
        if ours != theirs:
            raise SpecError(f"{name} is {ours!r} in the anchor and {theirs!r} in {other}; they cannot be fused")
    if anchor.model_type in COUNTED and anchor.pad_token_id != source.pad_token_id:
        raise SpecError(
            f"positions are counted from pad_token_id, {anchor.pad_token_id} in the anchor and {source.pad_token_id} in"
            f" {other}; their rows are shifted and cannot be fused"
        )
    for tower in TOWERS:
        if hasattr(anchor, tower) and hasattr(source, tower):
            check_same_function(getattr(anchor, tower), getattr(source, tower), other)
    check_same_answers(anchor, source, other)


def check_same_answers(anchor: PretrainedConfig, source: PretrainedConfig, other: str = OTHER) -> None:
    """Raise `SpecError` where two configurations name their classes differently."""
    names, others = (dict(config.id2label or {}) for config in (anchor, source))
    generic = any(set(labels.values()) == {f"LABEL_{index}" for index in labels} for labels in (names, others))
    for index in () if generic else sorted(names.keys() & others.keys()):
        if names[index] != others[index]:
            raise SpecError(
                f"class {index} is {names[index]!r} in the anchor and {others[index]!r} in {other};"
                " reorder the labels of one"
            )


def check_same_layers(anchor: Spec, source: Spec, other: str = OTHER) -> None:
    """Raise `SpecError` unless both declare the same tensors with the same fixed units; widths may differ."""
    ours, theirs = anchor.tensors(), source.tensors()
    if anchor.family != source.family:
        raise SpecError(f"the anchor is a {anchor.family}, {other} a {source.family}; fuse models of one family")
    if extra := sorted(ours.keys() ^ theirs.keys()):
        where = "the anchor" if extra[0] in ours else other
        raise SpecError(f"only {where} has {extra[0]} (and {len(extra) - 1} more); fuse models of equal depth and head")
    for name, axes in ours.items():
        for axis, its in zip(axes, theirs[name], strict=True):
            if len([*axis.spaces()]) != len([*its.spaces()]):
                raise SpecError(
                    f"tensor {name} is laid out as {axis} in the anchor and as {its} in {other}; fuse models whose"
                    " query heads share keys and values alike"
                )
            pairs = zip(axis.spaces(), its.spaces(), strict=True)
            if fixed := [(a, b) for a, b in pairs if a.units != b.units and not a.free]:
                a, b = fixed[0]
                raise SpecError(
                    f"tensor {name}: the anchor has {a.units} of {a.name}, {other} {b.units}; these have an identity"
                    " and cannot be matched"
                )


def check_same_widths(anchor: Spec, source: Spec, method: str) -> None:
    """Raise `SpecError` unless every space has the same size on both sides."""
    theirs = source.spaces()
    for name, space in anchor.spaces().items():
        if theirs[name].units != space.units:
            raise SpecError(
                f"{name} has {space.units} units in the anchor and {theirs[name].units} in {OTHER};"
                f" align {method} needs equal widths, use --align flow (which maps widths, but not other numbers of"
                " grouped or rotary heads, or of experts)"
            )


def check_same_nested(anchor: Spec, source: Spec) -> None:
    """Raise `SpecError` where spaces that hold others have other sizes: they are matched whole, one to one."""
    theirs = source.spaces()
    for name, space in anchor.spaces().items():
        for each, its in zip((*space.ancestors(), space), (*theirs[name].ancestors(), theirs[name]), strict=True):
            if space.within and each.units != its.units:
                raise SpecError(
                    f"{each.name} has {each.units} units in the anchor and {its.units} in {OTHER}; the heads of this"
                    " attention, and experts, are matched one to one, only other widths may differ"
                )
