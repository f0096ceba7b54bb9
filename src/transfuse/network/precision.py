"""The precision in which models are stored, computed and multiplied."""

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import cache
from typing import Any

import torch
from accelerate import init_empty_weights
from torch.nn.functional import scaled_dot_product_attention
from torch.overrides import TorchFunctionMode
from transformers import PreTrainedModel


def compute_dtype(stored: torch.dtype) -> torch.dtype:
    """Return the precision in which weights are aligned and merged: float32, or the stored one if it is higher."""
    return torch.promote_types(stored, torch.float32)


def matmul_dtype(stored: torch.dtype) -> torch.dtype:
    """Return the precision for products of weights, since rotations also depend on directions of little variance."""
    return torch.float32 if torch.finfo(stored).bits < 32 else torch.float64


@contextmanager
def mixed_precision(device: torch.device) -> Iterator[None]:
    """Multiply in bfloat16 inside this context, where the device does so faster than in float32.

    On a CPU, attention stays in float32, because its backward pass in bfloat16 takes up to six times as long.
    """
    dtype = mixed_dtype(device)
    if dtype is torch.float32:
        yield
        return
    with torch.autocast(device.type, dtype), Float32Attention() if device.type == "cpu" else nullcontext():
        yield


def mixed_dtype(device: torch.device) -> torch.dtype:
    """Return the precision of products in `mixed_precision`."""
    if device.type == "cuda" or (device.type == "cpu" and cpu_multiplies_bfloat16()):
        return torch.bfloat16
    return torch.float32


@cache
def cpu_multiplies_bfloat16() -> bool:
    """Return whether the processor has instructions for products in bfloat16. Others emulate them, which is slow."""
    capabilities = getattr(torch.cpu, "get_capabilities", dict[str, Any])()  # older versions of torch cannot tell
    return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16"))


class Float32Attention(TorchFunctionMode):
    """Compute scaled dot-product attention of bfloat16 in float32 inside this context, also under autocast."""

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call a function of torch."""
        kwargs = kwargs or {}
        if function is not scaled_dot_product_attention:
            return function(*args, **kwargs)
        with torch.autocast("cpu", enabled=False):
            return function(*map(_in_float32, args), **{name: _in_float32(value) for name, value in kwargs.items()})


def _in_float32(value: Any) -> Any:
    return value.float() if isinstance(value, torch.Tensor) and value.dtype is torch.bfloat16 else value


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
