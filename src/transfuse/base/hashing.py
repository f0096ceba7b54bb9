"""The hash of tensors, which identifies the inputs of a run and verifies stored results."""

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor


def digest(text: str, tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256, in hexadecimal, of a text and named tensors: their names, dtypes, shapes and bytes."""
    sha256 = hashlib.sha256(repr(text).encode())
    for name, values in sorted(tensors.items()):
        stored = values.detach().cpu().contiguous()
        sha256.update(repr((name, str(stored.dtype), tuple(stored.shape))).encode())
        if stored.numel():
            sha256.update(stored.flatten().view(torch.uint8).numpy().data)
    return sha256.hexdigest()
