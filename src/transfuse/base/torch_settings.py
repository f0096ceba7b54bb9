"""Settings of torch and random states of the calling program, which neither change a result nor are changed by it."""

import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import numpy as np
import torch

AUTOCAST_DEVICES = ("cpu", "cuda", "mps", "xpu")


@contextmanager
def own_torch_settings() -> Iterator[None]:
    """Compute with gradients, in the precision of the tensors and with float32 by default, wherever the caller is.

    Inference mode, autocast, the default dtype and the default device of the caller are restored afterward. Public
    functions have this as their decorator.
    """
    default = torch.get_default_dtype()
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        for device in filter(torch.is_autocast_enabled, AUTOCAST_DEVICES):
            # Casts would be cached until the caller leaves its autocast, while training changes the weights.
            stack.enter_context(torch.autocast(device, enabled=False, cache_enabled=False))
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        if default is not torch.float32:
            torch.set_default_dtype(torch.float32)
            stack.callback(torch.set_default_dtype, default)
        yield


@contextmanager
def kept_random_states() -> Iterator[None]:
    """Restore the global random states of Python, NumPy and torch after this context, which may seed them."""
    python, numpy = random.getstate(), np.random.get_state()
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
