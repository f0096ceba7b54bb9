"""Checks, made before any other work, that a source can be aligned to an anchor."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from transformers import PreTrainedConfig

from transfuse.errors import SpecError
from transfuse.network.class_order import differing_class
from transfuse.network.config_fields import FieldDifference, differences, shape_differences
from transfuse.network.families import declare
from transfuse.network.layout import unfused
from transfuse.network.model import Network
from transfuse.network.output_losses import CLASSIFIERS, problem_type
from transfuse.network.space import Space
from transfuse.network.spec import Spec
from transfuse.network.token_ids import POSITIONS_AFTER_PADDING, SAME_PADDING
from transfuse.network.tolerated_settings import tolerated_differences

OTHER = "the other model"
TOKEN_ADVICE = {  # by the last name of a field's path
    "eos_token_id": "if both end texts with the same token, set it to that token's number in both",
    "pad_token_id": SAME_PADDING,
}
SHIFTED = "positions are counted from this number, so rows of their table are shifted and cannot be fused"
REASONS = {
    "tie_word_embeddings": "one head is the embeddings, the other has weights of its own; give the model with a head of"
    " its own first"
}  # by the last name of a field's path
SAME_TENSORS = "fuse models of equal depth, with the same head and the same optional weights"
SAME_MEANING = "positions, channels, tokens and classes have a fixed meaning: give models with equal numbers of them"
ANCHOR_HEAD = ", or fuse all but the heads with --head anchor"
ANCHOR_SETTINGS = "; --settings anchor gives all models those of the anchor"
ANCHOR_POSITIONS = ", or fuse with --positions anchor, which changes the tables of the other models"
REMEDIES = {
    "class": ANCHOR_HEAD,
    "position_id": ANCHOR_POSITIONS,
    "text.position_id": ANCHOR_POSITIONS,
    "distance": ANCHOR_POSITIONS,
}  # by the name of a space
SAME_HEADS = (
    "heads of this architecture, their channels and experts are matched one to one: give models with equal numbers of"
    " them"
)
SAME_WIDTHS = (
    "{method} needs equal shapes: use --align flow (it maps widths, but not numbers of experts, of key-value heads or"
    " of heads with rotary positions), or give models of the same configuration"
)
METHODS = {"none": "a plain average", "exact": "exact alignment"}
NOTES = {"num_labels": "num_labels (the number of classes in id2label)"}
MAX_VALUE_LENGTH = 80  # characters of a value that a message shows


def check_same_function(
    anchor: PreTrainedConfig, source: PreTrainedConfig, name: str = OTHER, architecture: str | None = None
) -> None:
    """Check that two configurations compute the same function of their weights, and answer in the same terms.

    Args:
        name: what to call the source in messages.
        architecture: the class of both models; None: the class that the anchor's configuration names.

    Raises:
        SpecError: a field that changes the forward pass differs, classes have other names, or classifiers predict
            different things.
    """
    tolerated = tolerated_differences(anchor, source, architecture)
    for difference in differences(anchor, source, architecture):
        field = difference.path.rpartition(".")[2]
        shifted = field == "pad_token_id" and anchor.model_type in POSITIONS_AFTER_PADDING
        reason = SHIFTED if shifted else REASONS.get(field, "models that compute differently cannot be fused")
        advice = f"; {TOKEN_ADVICE[field]}" if field in TOKEN_ADVICE and not shifted else ""
        advice = ANCHOR_POSITIONS if field == "image_size" else advice
        advice = ANCHOR_SETTINGS if difference in tolerated else advice
        raise SpecError(f"{name}: {_values(difference)}; {reason}{advice}")
    architecture = architecture or next(iter(anchor.architectures or ()), "")
    check_same_labels(anchor, source, architecture, name)
    _check_same_problem(anchor, source, name, architecture)


def _check_same_problem(anchor: PreTrainedConfig, source: PreTrainedConfig, name: str, architecture: str) -> None:
    """Raise `SpecError` if two classifiers predict different things: one class, any number of classes, or numbers."""
    problems = [problem_type(config) for config in (source, anchor)]
    if architecture.endswith(CLASSIFIERS) and len(set(problems)) > 1:
        raise SpecError(
            f"{name}: problem_type is {_short(problems[0])}, the anchor's is {_short(problems[1])}; their outputs mean"
            f" different things{ANCHOR_HEAD}"
        )


def check_same_labels(anchor: PreTrainedConfig, source: PreTrainedConfig, architecture: str, name: str = OTHER) -> None:
    """Raise `SpecError` if two classifiers name a class differently in id2label, as `differing_class` compares them."""
    found = differing_class(anchor, source, architecture)
    if found is not None:
        raise SpecError(
            f"{name}: class {found.index} in id2label is {found.source!r}, the anchor's is {found.anchor!r}; order the"
            f" classes of both models alike{ANCHOR_HEAD}"
        )


def check_same_layers(anchor: PreTrainedConfig, source: PreTrainedConfig, architecture: str, name: str = OTHER) -> None:
    """Check that two configurations declare the same tensors with the same fixed units; widths may differ.

    Args:
        architecture: the class of both models.
        name: what to call the source in messages.

    Raises:
        SpecError: the family, depth, head, layout of attention or a number of fixed units differs.
    """
    pair = _Pair(anchor, source, architecture, name, unfused)
    anchor_spec, source_spec = pair.specs()
    anchor_tensors = anchor_spec.tensors()
    source_tensors = source_spec.tensors()
    if anchor_spec.family != source_spec.family:
        families = f"its family is {source_spec.family}, the anchor's is {anchor_spec.family}"
        raise pair.refusal(lambda spec: spec.family, families, "fuse models of one family")
    if unpaired := sorted(anchor_tensors.keys() ^ source_tensors.keys()):
        owner = "the anchor" if unpaired[0] in anchor_tensors else "this model"
        more = f" (and {len(unpaired) - 1} more)" if unpaired[1:] else ""
        tensors = f"only {owner} has the tensor {unpaired[0]}{more}"
        raise pair.refusal(lambda spec: spec.tensors().keys(), tensors, SAME_TENSORS)
    for tensor in anchor_tensors:
        anchor_spaces = _spaces(anchor_spec, tensor)
        source_spaces = _spaces(source_spec, tensor)
        shapes = _shapes(anchor_spec, source_spec, tensor)
        if len(anchor_spaces) != len(source_spaces):
            raise pair.refusal(partial(_space_count, tensor), shapes, SAME_HEADS)
        for index, (space, source_space) in enumerate(zip(anchor_spaces, source_spaces, strict=True)):
            if space.units != source_space.units and not (space.free and source_space.free):
                is_head = space.within or space.free or source_space.free  # a single group of heads is fixed
                advice = SAME_HEADS if is_head else SAME_MEANING
                advice += REMEDIES.get(space.name, "")
                raise pair.refusal(partial(_units_at, tensor, index), shapes, advice)


def check_same_widths(anchor: Network, source: Network, method: str, advice: str = "") -> None:
    """Raise `SpecError` unless every space has the same size in both networks.

    Args:
        advice: what to do; empty: as for this alignment.
    """
    source_spaces = source.spec.spaces()
    for name, space in anchor.spec.spaces().items():
        if source_spaces[name].units != space.units:
            pair = _Pair.of(anchor, source, unfused)
            shapes = _shapes(anchor.spec, source.spec, _tensor_with(anchor.spec, name))
            advice = advice or SAME_WIDTHS.format(method=METHODS.get(method, method))
            raise pair.refusal(_free_units, shapes, advice)


def check_same_nested(anchor: Network, source: Network, prepare: Callable[[Spec], Spec]) -> None:
    """Check that spaces which contain other spaces have equally many units, since these are matched one to one.

    Args:
        prepare: converts the declaration of a network to the one that the alignment uses.

    Raises:
        SpecError: the number of heads, rotary channels or experts differs.
    """
    anchor_spec = prepare(anchor.spec)
    source_spec = prepare(source.spec)
    source_spaces = source_spec.spaces()
    for name, space in anchor_spec.spaces().items():
        anchor_levels = (*space.ancestors(), space)
        source_levels = (*source_spaces[name].ancestors(), source_spaces[name])
        for level, source_level in zip(anchor_levels, source_levels, strict=True):
            if space.within and level.units != source_level.units:
                pair = _Pair.of(anchor, source, lambda spec: prepare(unfused(spec)))
                shapes = _shapes(anchor_spec, source_spec, _tensor_with(anchor_spec, name))
                raise pair.refusal(partial(_units_of, level.name), shapes, SAME_HEADS)


@dataclass(frozen=True)
class _Pair:
    """Two configurations to compare.

    Attributes:
        name: what to call the source in messages.
        prepare: converts a declaration to the one that is compared.
    """

    anchor: PreTrainedConfig
    source: PreTrainedConfig
    architecture: str
    name: str
    prepare: Callable[[Spec], Spec]

    @classmethod
    def of(cls, anchor: Network, source: Network, prepare: Callable[[Spec], Spec]) -> "_Pair":
        architecture = type(anchor.model).__name__
        return cls(anchor.model.config, source.model.config, architecture, source.name, prepare)

    def specs(self) -> tuple[Spec, Spec]:
        """Return both prepared declarations."""
        anchor, source = (self.prepare(declare(config, self.architecture)) for config in (self.anchor, self.source))
        return anchor, source

    def refusal(self, measure: Callable[[Spec], object], otherwise: str, advice: str) -> SpecError:
        """Return an error that names the fields which explain why `measure` differs, or else says `otherwise`."""
        fields = shape_differences(
            self.anchor, self.source, self.architecture, lambda spec: measure(self.prepare(spec))
        )
        return SpecError(f"{self.name}: {'; '.join(map(_values, fields)) or otherwise}; {advice}")


def _values(difference: FieldDifference) -> str:
    field = NOTES.get(difference.path, difference.path)
    return f"{field} is {_short(difference.source)}, the anchor's is {_short(difference.anchor)}"


def _short(value: object) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= MAX_VALUE_LENGTH else f"{text[:MAX_VALUE_LENGTH]}..."


def _spaces(spec: Spec, tensor: str) -> list[Space]:
    return [space for axis in spec.tensors()[tensor] for space in axis.spaces()]


def _space_count(tensor: str, spec: Spec) -> int:
    return len(_spaces(spec, tensor))


def _units_at(tensor: str, index: int, spec: Spec) -> int:
    """Return the units of the space at one position in the axes of a tensor."""
    return _spaces(spec, tensor)[index].units


def _units_of(name: str, spec: Spec) -> set[int]:
    """Return the units of the space of this name, as a set that is empty if there is no such space."""
    spaces = (level for space in spec.spaces().values() for level in (*space.ancestors(), space))
    return {space.units for space in spaces if space.name == name}


def _free_units(spec: Spec) -> dict[str, int]:
    return {name: space.units for name, space in spec.spaces().items()}


def _tensor_with(spec: Spec, name: str) -> str:
    """Return the first tensor whose axes mention the space of this name."""
    return next(tensor for tensor in spec.tensors() if any(space.name == name for space in _spaces(spec, tensor)))


def _shapes(anchor: Spec, source: Spec, tensor: str) -> str:
    anchor_shape, source_shape = (tuple(axis.size for axis in spec.tensors()[tensor]) for spec in (anchor, source))
    return f"tensor {tensor} has shape {source_shape}, the anchor's is {anchor_shape}"
