"""Variants of training batches, so that samples that recur are not learned by heart.

The parents predict for any input, so a batch that differs from the given ones has targets as well. A teacher's function
is matched better on many inputs than on few, often repeated ones (Beyer et al., 2106.05237).
"""

import zlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from transfuse.base.batch import Batch


@dataclass(frozen=True)
class Mixture:
    """What the samples of a variant are made of.

    Attributes:
        share: the share of the given sample in each sample of the variant.
        partner: the number of the given sample that makes up the rest.
    """

    share: Float[Tensor, " sample"]
    partner: Int[Tensor, " sample"]

    def of(self, values: Float[Tensor, "model sample"]) -> Float[Tensor, "model sample"]:
        """Return the values of the samples of the variant, given those of the samples that it is made of."""
        share = self.share.to(values)
        return share * values + (1 - share) * values[:, self.partner.to(values.device)]


class Variants(ABC):
    """Variants of some batches. Each depends on its number and the seed only."""

    def __init__(self, batches: Sequence[Batch], kept: int, seed: int = 0) -> None:
        """
        Args:
            batches: the given batches.
            kept: number of variants of each batch that take turns, the given batch included, so that the parents'
                predictions can be cached. 1: none recurs, and none is kept.
        """
        self.kept = kept
        self.seed = seed
        self.by_batch = [[batch] for batch in batches]

    def variant(self, index: int, number: int) -> Batch:
        """Return a variant of the batch at an index. Number 0 is the batch itself."""
        variants = self.by_batch[index]
        if self.kept == 1:
            return self._next(variants, self._generator(index, number)) if number else variants[0]
        while len(variants) <= number % self.kept:
            variants.append(self._next(variants, self._generator(index, len(variants))))
        return variants[number % self.kept]

    def mixture(self, index: int, number: int) -> Mixture | None:
        """Return what a variant is made of; None: it is the given batch, or not made of given samples alone."""
        return None

    @abstractmethod
    def _next(self, variants: Sequence[Batch], generator: torch.Generator) -> Batch:
        """Return another variant, given those so far, the given batch first."""

    def _generator(self, index: int, number: int) -> torch.Generator:
        return torch.Generator().manual_seed(zlib.crc32(f"{self.seed} {index} {number}".encode()))
