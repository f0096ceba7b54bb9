"""The sizes of models that are changed to those of the anchor before models are aligned."""

from collections.abc import Sequence

from transformers import PreTrainedConfig, PreTrainedModel

from transfuse.errors import SpecError
from transfuse.network.sizes import Sizes, sizes_of

OTHER_SIZES = "maps: the models have different sizes, and maps lead between models of equal sizes; leave maps out"


def depth(config: PreTrainedConfig) -> int | None:
    """Return the number of blocks of a model; None if it has several stacks, or if the number is unknown."""
    sizes = changeable_sizes(config, widths=False)
    return None if sizes is None else sizes.layers


def changeable_sizes(config: PreTrainedConfig, widths: bool) -> Sizes | None:
    """Return the sizes of a model that can be changed to those of the anchor; None if none can.

    Args:
        widths: whether these are all sizes but the number of experts, or only the number of blocks.
    """
    try:
        given = sizes_of(config).given()
    except SpecError:
        return None
    roles = given.keys() - {"experts"} if widths else {"layers"}
    return Sizes(**{role: size for role, size in given.items() if role in roles and type(size) is int})


def size_changes(given: PreTrainedModel, used: PreTrainedModel) -> dict[str, tuple[int, int]]:
    """Return the sizes of a model that were changed to those of the anchor, before and after, by their roles.

    Args:
        given: the model before `with_anchor_sizes`.
        used: the model after it.
    """
    own, new = (changeable_sizes(model.config, widths=True) or Sizes() for model in (given, used))
    pairs = {role: (size, new.given().get(role, size)) for role, size in own.given().items()}
    return {role: pair for role, pair in pairs.items() if pair[0] != pair[1]}


def larger_models(given: Sequence[PreTrainedModel], used: Sequence[PreTrainedModel]) -> dict[int, PreTrainedModel]:
    """Return the models that gave up something to have the sizes of the anchor, as they were, by their numbers.

    Args:
        given: the models before `with_anchor_sizes`.
        used: the models after it.
    """
    return {
        number: model
        for number, (model, other) in enumerate(zip(given, used, strict=True))
        if any(before > after for before, after in size_changes(model, other).values())
    }
