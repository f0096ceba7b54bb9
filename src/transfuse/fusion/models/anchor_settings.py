"""Sources that compute a little differently: give them the settings of the anchor, such as the epsilon of norms."""

from transformers import PreTrainedModel

from transfuse.network.reconfigured import with_config
from transfuse.network.tolerated_settings import tolerated_differences, with_settings


def with_anchor_settings(source: PreTrainedModel, anchor: PreTrainedModel) -> PreTrainedModel:
    """Return the source with the settings of the anchor that it tolerates; the same model if it has them already.

    Args:
        source: its tensors may be empty, and are then empty in the result.
    """
    found = tolerated_differences(anchor.config, source.config, type(source).__name__)
    return with_config(source, with_settings(source.config, anchor.config, found)) if found else source


def settings_line(source: PreTrainedModel, anchor: PreTrainedModel, name: str) -> str | None:
    """Return which settings of a source become those of the anchor; None: none of them.

    Args:
        source: the model as it was given.
        name: what to call it.
    """
    found = tolerated_differences(anchor.config, source.config, type(source).__name__)
    changes = ", ".join(f"{each.path} {each.source!r:.80} becomes {each.anchor!r:.80}" for each in found)
    return f"{name}: {changes}, as in the anchor" if found else None
