"""The hash of tensors: what a run is made of is known by it, and whether what was kept is still what was written."""

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor


def digest(text: str, tensors: Mapping[str, Tensor]) -> str:
    """SHA-256, in hexadecimal, of a text and of named tensors: names, precisions, shapes and every byte."""
    found = hashlib.sha256(repr(text).encode())
    for name, values in sorted(tensors.items()):
        plain = values.detach().cpu().contiguous()
        found.update(repr((name, str(plain.dtype), tuple(plain.shape))).encode())
        if plain.numel():
            found.update(plain.flatten().view(torch.uint8).numpy().data)
    return found.hexdigest()
