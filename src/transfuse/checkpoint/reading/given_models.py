"""Checks of what is given as a model in memory, before anything reads its weights."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel

from transfuse.errors import ConfigError

WRAPPERS = ("_orig_mod", "module")  # where torch.compile, and DataParallel and others, keep the model


def wrapper_advice(value: Any) -> str:
    """Return what to do if a value wraps a model, to be put after a message that it is none; else ""."""
    for attribute in WRAPPERS if isinstance(value, nn.Module) else ():
        if isinstance(getattr(value, attribute, None), PreTrainedModel):
            return f"; give the model inside (.{attribute})"
    return ""


def check_given(models: Sequence[Any], names: Sequence[str]) -> None:
    """Raise `ConfigError` if a loaded model has no weights, or quantized ones, or returns tuples.

    Args:
        models: paths and loaded models.
        names: what to call them.
    """
    for model, name in zip(models, names, strict=True):
        if isinstance(model, PreTrainedModel):
            _check(model, name)


def _check(model: PreTrainedModel, name: str) -> None:
    values = model.state_dict()
    if any(isinstance(value, Tensor) and value.is_meta for value in values.values()):
        raise ConfigError(
            f"{name}: its weights are on the meta device, which holds no numbers; load it without device_map='meta', or"
            " give its path"
        )
    if any(not isinstance(value, Tensor) or value.is_quantized for value in values.values()):
        raise ConfigError(f"{name}: its weights are quantized; give the model before it was quantized, or its path")
    if not model.config.return_dict:
        raise ConfigError(f"{name}: its config has return_dict false, but outputs are read by names; set it to True")
