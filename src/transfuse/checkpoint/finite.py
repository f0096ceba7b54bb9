"""Checking weights for NaN and infinity."""

from collections.abc import Mapping

from torch import Tensor

from transfuse.base.counted import counted
from transfuse.errors import NotFiniteError


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
