"""Models whose function changes on the way to the form of the anchor, as they were.

They teach, and the result is compared with them.
"""

from collections.abc import Sequence

from transformers import PreTrainedModel

from transfuse.config.options import Options
from transfuse.fusion.models.padded_vocabulary import is_padded, resized_to_anchor
from transfuse.fusion.models.position_tables import with_anchor_positions
from transfuse.fusion.models.vocabulary import Rows, recode
from transfuse.fusion.sizes.changes import larger_models
from transfuse.network.class_order import with_anchor_order
from transfuse.network.model import network
from transfuse.network.outputs import has_logits
from transfuse.network.tolerated_settings import tolerated_differences


def changed_models(
    given: Sequence[PreTrainedModel], used: Sequence[PreTrainedModel], options: Options, like: int = 0
) -> dict[int, PreTrainedModel]:
    """Return the models that are larger than the anchor or get other settings, as they were, by their numbers.

    Args:
        given, used: as for `larger_models`.
        like: the number of the model whose settings all get.
    """
    changed = larger_models(given, used)
    if options.settings == "anchor":
        anchor, architecture = used[like].config, type(used[like]).__name__
        for number, model in enumerate(given):
            if tolerated_differences(anchor, model.config, architecture):
                changed[number] = model
    return changed


def whole_models(
    given: Sequence[PreTrainedModel],
    loaded: Sequence[PreTrainedModel],
    names: Sequence[str],
    rows: Sequence[Rows | None],
    options: Options,
    like: int = 0,
) -> dict[int, PreTrainedModel]:
    """Return the changed models as they were, with the vocabulary, positions and classes of the anchor.

    Models whose outputs cannot be compared, because they have no head or get that of the anchor, are left out.

    Args:
        like: as for `changed_models`.
    """
    anchor, whole = loaded[0], {}
    for number, model in changed_models(given, loaded, options, like).items():
        if (number and options.head != "fused") or not has_logits(model):
            continue
        converted, tokens = model, rows[number - 1] if number else None
        if options.positions == "anchor":
            converted = with_anchor_positions(converted, anchor, names[number])
        if tokens is not None:
            converted = recode(converted, tokens, anchor)
        elif is_padded([anchor, converted], [names[0], names[number]], 1):
            converted = resized_to_anchor(converted, anchor)
        own = network(converted, options.torch_device(), names[number])
        whole[number] = with_anchor_order(own, anchor.config).model
    return whole
