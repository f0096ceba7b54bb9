"""Checking weights for NaN and infinity."""

from collections.abc import Mapping

import torch
from torch import Tensor

from transfuse.base.counted import are, counted
from transfuse.errors import ConfigError, NotFiniteError


def check_finite(tensors: Mapping[str, Tensor], where: str) -> None:
    """Check that floating-point tensors of any shape hold finite values only.

    Args:
        where: name of the checkpoint, for the error message.

    Raises:
        NotFiniteError: a tensor holds NaN or infinity; the message names the first one.
    """
    bad = [name for name, tensor in tensors.items() if tensor.is_floating_point() and not _is_finite(tensor)]
    if bad:
        tensor = tensors[bad[0]]
        values = f"{int((~tensor.isfinite()).sum())} of {counted(tensor.numel(), 'value')} of {bad[0]}"
        others = f" (and some in {counted(len(bad) - 1, 'more tensor')})" if bad[1:] else ""
        raise NotFiniteError(f"{where}: {values}{others} are NaN or infinite in {tensor.dtype}; no model can use them")


def _is_finite(tensor: Tensor) -> bool:
    """Check the sum first, which takes a tenth of the time; a sum that is not finite may be an overflow."""
    return bool(tensor.sum().isfinite()) or bool(tensor.isfinite().all())


def check_range(tensors: Mapping[str, Tensor], dtype: torch.dtype) -> None:
    """Check that finite tensors of any shape stay finite in the precision to write.

    Raises:
        ConfigError: a value is too large for it; the message names the first tensor.
    """
    for name, values in tensors.items():
        if not values.is_floating_point() or torch.finfo(dtype).max >= torch.finfo(values.dtype).max:
            continue
        if values.numel() and float(values.abs().max()) > torch.finfo(dtype).max:
            count = int((~values.to(dtype).isfinite()).sum())
            if count:
                precision = str(dtype).removeprefix("torch.")
                raise ConfigError(
                    f"{name}: {counted(count, 'value')} {are(count)} too large for {precision}; choose --dtype bfloat16"
                    " or float32 (in Python dtype=)"
                )
