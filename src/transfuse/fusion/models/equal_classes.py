"""Classes of transformers that differ in their names alone: a model of one of them can be loaded as another.

Their tensors have the same names and shapes, and they compute the same from these.
"""

from collections.abc import Sequence
from dataclasses import fields

import transformers
from transformers import PreTrainedConfig, PreTrainedModel

from transfuse.errors import ConfigError
from transfuse.network.reconfigured import with_config

EQUAL = (  # the starts of the names of classes, by model type
    {"llama": "Llama", "mistral": "Mistral"},
    {"roberta": "Roberta", "xlm-roberta": "XLMRoberta", "camembert": "Camembert"},
)
WINDOW = "sliding_window"  # a field that Mistral has and Llama lacks; null: there is no window


def in_one_family(models: Sequence[PreTrainedModel], names: Sequence[str]) -> list[PreTrainedModel]:
    """Return models in classes of the first one's model type, if these compute the same as their own; else as they are.

    Args:
        models: their tensors may be empty, and are then empty in the result.
        names: what to call them in messages.

    Raises:
        ConfigError: a model has an attention window, which the other class lacks.
    """
    anchor = models[0].config
    return [_of_type(model, anchor, name) for model, name in zip(models, names, strict=True)]


def _of_type(model: PreTrainedModel, anchor: PreTrainedConfig, name: str) -> PreTrainedModel:
    for starts in EQUAL:
        own, wanted = (starts.get(config.model_type) for config in (model.config, anchor))
        if own and wanted and own != wanted:
            ending = type(model).__name__.removeprefix(own)
            converted = getattr(transformers, f"{wanted}{ending}", None)
            return model if converted is None else _converted(model, converted, name)
    return model


def _converted(model: PreTrainedModel, wanted: type[PreTrainedModel], name: str) -> PreTrainedModel:
    """Return a model as one of another class."""
    known = {field.name for field in fields(wanted.config_class)}
    values = {field: value for field, value in model.config.to_dict().items() if field != "model_type"}
    if WINDOW not in known and values.pop(WINDOW, None) is not None:
        raise ConfigError(
            f"{name}: sliding_window is {model.config.sliding_window}, and a {wanted.__name__} has no windows; if texts"
            " are not longer than this, set it to null in config.json"
        )
    config = wanted.config_class(**({WINDOW: None} if WINDOW in known else {}) | values)
    return with_config(model, config, wanted)
