"""Sources that compute a little differently: give them the settings of the anchor, such as the epsilon of norms."""

from collections.abc import Sequence

from transformers import PreTrainedModel

from transfuse.base.progress import Progress
from transfuse.config.options import Options
from transfuse.network.reconfigured import with_config
from transfuse.network.tolerated_settings import ROTARY, tolerated_differences, with_settings


def with_anchor_settings(source: PreTrainedModel, anchor: PreTrainedModel) -> PreTrainedModel:
    """Return the source with the settings of the anchor that it tolerates; the same model if it has them already.

    Args:
        source: its tensors may be empty, and are then empty in the result.
    """
    found = tolerated_differences(anchor.config, source.config, type(source).__name__)
    return with_config(source, with_settings(source.config, anchor.config, found)) if found else source


def settings_lines(
    models: Sequence[PreTrainedModel], names: Sequence[str], options: Options, like: int = 0
) -> list[str]:
    """Return a line for each model that gets settings of another one, if the options ask for it.

    Args:
        models: the models as they were given.
        names: what to call them.
        like: the number of the model with these settings; 0: the anchor, which is called so.
    """
    if options.settings == "same":
        return []
    pattern = models[like]
    lines = []
    for model, name in zip(models, names, strict=True):
        found = tolerated_differences(pattern.config, model.config, type(model).__name__)
        told = [each for each in found if ROTARY not in each.path or None not in (each.anchor, each.source)]
        changes = ", ".join(f"{each.path} {each.source!r:.80} becomes {each.anchor!r:.80}" for each in told)
        if found:
            lines.append(f"{name}: {changes}, as in {names[like] if like else 'the anchor'}")
    return lines


def warn_of_settings(
    models: Sequence[PreTrainedModel], names: Sequence[str], options: Options, progress: Progress, like: int = 0
) -> None:
    """Tell the user which settings change.

    Args:
        models, names, like: as for `settings_lines`.
    """
    for line in settings_lines(models, names, options, like):
        progress.warn(line)
