"""Whether weights are numbers."""

from collections.abc import Mapping

from torch import Tensor

from transfuse.errors import CheckpointError


def check_finite(tensors: Mapping[str, Tensor], where: str) -> None:
    """Raises CheckpointError naming the first of `tensors`, of any shape, that has a NaN or an infinity."""
    bad = [name for name, tensor in tensors.items() if tensor.is_floating_point() and not _finite(tensor)]
    if bad:
        tensor = tensors[bad[0]]
        values = f"{int((~tensor.isfinite()).sum())} of {tensor.numel()} values of {bad[0]}"
        others = f" (and some in {len(bad) - 1} more tensors)" if bad[1:] else ""
        raise CheckpointError(f"{where}: {values}{others} are NaN or infinite in {tensor.dtype}; no model can use them")


def _finite(tensor: Tensor) -> bool:
    """A sum is finite only if all it sums is, and found in a tenth of the time; it may overflow, though."""
    return bool(tensor.sum().isfinite()) or bool(tensor.isfinite().all())
