"""Whether a source can be carried into an anchor's basis at all, said before any work is done."""

from transformers import PretrainedConfig

from transfuse.errors import SpecError
from transfuse.network.config_fields import COUNTED, differences
from transfuse.network.spec import Spec

OTHER = "the other model"
ADVICE = {  # what a user can do, by the last name of a field's path
    "eos_token_id": "if both end texts with the same token, set it to that token's number in both",
    "pad_token_id": "if both pad texts with the same token, set it to that token's number in both",
}
SHIFTED = "positions are counted from this number, so their rows are shifted and cannot be fused"
LONGEST = 80  # characters of a value that a message shows


def check_same_function(
    anchor: PretrainedConfig, source: PretrainedConfig, other: str = OTHER, architecture: str | None = None
) -> None:
    """Raise `SpecError` where two configurations compute differently or answer differently.

    Args:
        other: what to call the source.
        architecture: the class of both models; None: the one that the anchor's configuration names.
    """
    for found in differences(anchor, source, architecture):
        name = found.path.rpartition(".")[2]
        shifted = name == "pad_token_id" and anchor.model_type in COUNTED
        reason = SHIFTED if shifted else "models that compute differently cannot be fused"
        advice = f"; {ADVICE[name]}" if name in ADVICE and not shifted else ""
        values = f"{_short(found.ours)} in the anchor and {_short(found.theirs)} in {other}"
        raise SpecError(f"{found.path} is {values}; {reason}{advice}")
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


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."
