"""Merge models that were fine-tuned from one base, by their task vectors: their differences from the base.

Task arithmetic adds the task vectors to the base (Ilharco et al., 2212.04089). TIES keeps the largest entries of each,
elects a sign for every entry, and takes the mean of those that have this sign (Yadav et al., 2306.01708, algorithm 1).
DARE drops entries at random and rescales the others (Yu et al., 2311.03099, equations 2 to 4).

Everything is computed tensor by tensor, so models larger than memory can be streamed. The papers trim a task vector as
a whole; here each tensor keeps its own largest entries, and so does each expert that files hold as a tensor.
"""

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import TypeAlias

import torch
from torch import Tensor

from transfuse.base.lazy import Lazy, Tensors

Sparsify: TypeAlias = Callable[[Tensor, float, str], Tensor]
"""Sets entries of a task vector to zero, given the share to keep and a name for the vector."""


def trim(vector: Tensor, density: float, name: str = "") -> Tensor:
    """Keep the share `density` of the entries that is largest by magnitude, at least one. Set the others to zero.

    If entries have the same size, the first ones are kept.
    """
    if density >= 1:
        return vector
    sizes = vector.abs().flatten()
    kept = max(int(density * len(sizes)), 1)
    threshold = sizes.kthvalue(len(sizes) - kept + 1).values
    mask = sizes >= threshold
    if surplus := int(mask.sum()) - kept:
        mask[(sizes == threshold).nonzero().flatten()[-surplus:]] = False
    return vector * mask.view(vector.shape)


def drop(vector: Tensor, density: float, name: str, seed: int) -> Tensor:
    """Keep each entry with probability `density`, divided by it. Set the others to zero.

    The entries depend on the seed and the name only, not on the order of tensors, on files or on the device.
    """
    if density >= 1:
        return vector
    key = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(key[:8], "big") >> 1)
    kept = torch.rand(vector.shape, generator=generator) < density
    return vector * kept.to(vector.device) / density


def add(vectors: Sequence[Tensor], weights: Sequence[float], averaged: bool) -> Tensor:
    """Return the weighted sum of task vectors, or their weighted mean."""
    total = weights[0] * vectors[0]
    for weight, vector in zip(weights[1:], vectors[1:], strict=True):
        total += weight * vector
    share = sum(weights)
    return total / share if averaged and share else total


def add_elected(vectors: Sequence[Tensor], weights: Sequence[float], averaged: bool) -> Tensor:
    """Return the weighted sum, or mean, of the entries that have the sign of the weighted sum of all.

    Zeros do not count. Where the sum is zero, the positive entries are taken.
    """
    positive = add(vectors, weights, averaged=False) >= 0
    total = torch.zeros_like(vectors[0])
    share = torch.zeros_like(vectors[0])
    for weight, vector in zip(weights, vectors, strict=True):
        added = weight * vector
        agrees = torch.where(positive, added > 0, added < 0)
        total += added * agrees
        share += weight * agrees
    return total / torch.where(share > 0, share, 1.0) if averaged else total


def merge_task_vectors(
    base: Tensors,
    parents: Sequence[Tensors],
    weights: Callable[[str], Sequence[float]],
    densities: Callable[[str], Sequence[float]],
    sparsify: Sparsify,
    combine: Callable[[Sequence[Tensor], Sequence[float], bool], Tensor],
    averaged: bool,
    scale: float,
    owners: Mapping[str, str],
    separate: Collection[str] = (),
) -> Lazy:
    """Return the base plus the merged task vector.

    Args:
        weights: one per model, for the name of a tensor.
        densities: the share of entries that is kept, likewise.
        averaged: whether the sum is divided by the weights of what is added.
        scale: a factor of the merged task vector.
        owners: for tied tensors, the first of them; random entries are drawn for it.
        separate: the names of tensors whose experts are made sparse one by one.
    """

    def merged_tensor(name: str) -> Tensor:
        origin = base[name]
        vectors = []
        for number, (parent, density) in enumerate(zip(parents, densities(name), strict=True)):
            vector, label = parent[name] - origin, f"{number}/{owners[name]}"
            if name in separate:
                experts = [sparsify(expert, density, f"{label}/{place}") for place, expert in enumerate(vector)]
                vectors.append(torch.stack(experts))
            else:
                vectors.append(sparsify(vector, density, label))
        return origin + scale * combine(vectors, weights(name), averaged)

    return Lazy({name: partial(merged_tensor, name) for name in base})
