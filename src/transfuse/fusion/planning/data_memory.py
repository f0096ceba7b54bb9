"""The check that memory suffices for a fusion with samples, before weights are read."""

from collections.abc import Callable

import psutil

from transfuse.base.budget import warn_if_short
from transfuse.base.counted import counted
from transfuse.base.sizes import format_bytes
from transfuse.errors import ConfigError, TransfuseError
from transfuse.fusion.planning.plan import Estimate
from transfuse.fusion.planning.with_data import DataEstimate

EstimateFn = Callable[[Estimate, bool], DataEstimate | None]
"""Returns the estimate of a fusion with samples, given whether models are mapped; None without samples."""


def check_readable_samples(
    estimate: EstimateFn,
    max_memory: int | None,
    warn: Callable[[str], None],
    weights: Estimate,
    mapped: bool,
) -> bool:
    """Check that memory suffices for the samples. Return False if there are none, or if they cannot be read.

    What follows says what is wrong with samples.

    Raises:
        ConfigError: more than `max_memory` is needed.
    """
    try:
        found = estimate(weights, mapped)
    except TransfuseError:
        return False
    if found is not None:
        check_data_memory(found, max_memory, warn)
    return found is not None


def check_data_memory(estimate: DataEstimate, max_memory: int | None, warn: Callable[[str], None]) -> None:
    """Check that memory suffices for a fusion with samples, before weights are read.

    Without a limit, warn if the predicted peak exceeds the free memory.

    Raises:
        ConfigError: `max_memory` bytes are less than what is needed even with the smallest batches and caches.
    """
    samples = counted(estimate.samples.count, "sample")
    if max_memory is not None and not estimate.on_gpu:
        used = psutil.Process().memory_info().rss
        if used + estimate.least_bytes > max_memory:
            raise ConfigError(
                f"max_memory: fusing with {samples} takes at least {format_bytes(used + estimate.least_bytes)};"
                " allow at least that much"
            )
        return
    parts = estimate.peak.parts
    device = estimate.options.torch_device()
    warn_if_short(parts.total - parts.program, device, f"fusing with {samples}", warn)
