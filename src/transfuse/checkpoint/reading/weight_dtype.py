"""The precision of a checkpoint's weights, which its files may mix."""

import copy
from collections.abc import Iterable, Mapping
from functools import reduce
from typing import Any

import torch
from transformers import AutoModel, PreTrainedConfig

from transfuse.base.libraries import quiet
from transfuse.checkpoint.reading.files import FLOAT8_DTYPES
from transfuse.checkpoint.reading.lazy_tensors import names_in_model


def weight_dtype(architecture: Any, config: PreTrainedConfig, stored: Mapping[str, torch.dtype | None]) -> torch.dtype:
    """Return the precision of the stored tensors that a model has; bfloat16 for float8.

    Where these are mixed, because transformers keeps some in float32, it is the `dtype` of config.json if some have
    it, as in `from_pretrained(dtype="auto")`, and the smallest precision that holds them all otherwise.

    Args:
        architecture: the class of the model.
        stored: the dtype of each tensor in the files by name; None for integers.
    """
    found = _floats(stored.values())
    if len(found) > 1:
        found = _floats(stored[name] for name in _read(architecture, config, stored)) or found
    if config.dtype in found:
        return config.dtype
    return reduce(torch.promote_types, found) if found else torch.float32


def _floats(dtypes: Iterable[torch.dtype | None]) -> set[torch.dtype]:
    return {torch.bfloat16 if dtype in FLOAT8_DTYPES else dtype for dtype in dtypes if dtype is not None}


def _read(architecture: Any, config: PreTrainedConfig, stored: Mapping[str, Any]) -> Iterable[str]:
    """Return the names of the stored tensors that a model has."""
    create = AutoModel.from_config if architecture is AutoModel else architecture
    try:
        with quiet(), torch.device("meta"):
            model = create(copy.deepcopy(config))
    except Exception:  # loading says what is wrong
        return stored
    return names_in_model(model, stored)
