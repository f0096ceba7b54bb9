"""The precision in which models are stored, computed and multiplied."""

import copy
from contextlib import AbstractContextManager, nullcontext

import torch
from accelerate import init_empty_weights
from transformers import PreTrainedModel


def compute_dtype(stored: torch.dtype) -> torch.dtype:
    """Return the precision in which weights are aligned and merged: float32, or the stored one if it is higher."""
    return torch.promote_types(stored, torch.float32)


def matmul_dtype(stored: torch.dtype) -> torch.dtype:
    """Return the precision for products of weights, since rotations also depend on directions of little variance."""
    return torch.float32 if torch.finfo(stored).bits < 32 else torch.float64


def training_precision(device: torch.device) -> AbstractContextManager[object]:
    """Return a context that multiplies in bfloat16 on a GPU. A CPU gains only at large widths, so it keeps float32."""
    return torch.autocast(device.type, torch.bfloat16) if device.type == "cuda" else nullcontext()


def as_dtype(model: PreTrainedModel, dtype: torch.dtype) -> PreTrainedModel:
    """Convert the model in place, and return it.

    Buffers that are not stored, such as a scale of embeddings or rotary frequencies, were rounded when the model was
    loaded. They are computed again.
    """
    if model.dtype == dtype:
        return model
    model.to(dtype)
    stored = model.state_dict().keys()
    with init_empty_weights(include_buffers=False):
        fresh = type(model)(copy.deepcopy(model.config))
    for name, values in fresh.named_buffers():
        if name not in stored:
            module, _, buffer = name.rpartition(".")
            model.get_submodule(module).register_buffer(buffer, values.to(model.device), persistent=False)
    return model


def stored_as(dtype: torch.dtype, model: PreTrainedModel) -> PreTrainedModel:
    """Convert the parameters of the model in place, but not its buffers (rotary frequencies), and return it."""
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)
    model.config.dtype = dtype
    return model
