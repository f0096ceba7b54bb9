"""Variants of images: shifted, and mixed in pairs.

Mixed images (Zhang et al., 1710.09412) get the parents' predictions for the mixture, not a mixture of predictions: a
consistent teacher sees what the student sees (Beyer et al., 2106.05237).
"""

from collections.abc import Sequence

import torch

from transfuse.base.batch import Batch, batch_size
from transfuse.data.image.augment import PADDING, random_shift
from transfuse.distillation.variants import Mixture, Variants

MAX_IMAGE_VARIANTS = 16  # of each batch, the given one included


class ImageVariants(Variants):
    """Variants of batches of images."""

    def __init__(self, batches: Sequence[Batch], kept: int, seed: int = 0, mixes: bool = True) -> None:
        """
        Args:
            batches: the given images, as `pixel_values`.
            kept: as in `Variants`; at most `MAX_IMAGE_VARIANTS` are.
            mixes: whether images are mixed. If the parents are weighted by labels, they cannot be.
        """
        super().__init__(batches, min(kept, MAX_IMAGE_VARIANTS), seed)
        self.mixes = mixes

    def _next(self, variants: Sequence[Batch], generator: torch.Generator) -> Batch:
        """Return the given images, shifted by up to an eighth of a side, and mixed with others of the batch."""
        given = variants[0]["pixel_values"]
        mixture = self._draw(len(given), generator)
        shifted = random_shift(given, max(1, round(PADDING * given.shape[-1])), generator)
        share, partner = mixture.share.to(shifted)[:, None, None, None], mixture.partner.to(shifted.device)
        mixed = share * shifted + (1 - share) * shifted[partner] if self.mixes else shifted
        return {**variants[0], "pixel_values": mixed}

    def mixture(self, index: int, number: int) -> Mixture | None:
        """Return which given images a variant is made of; None: it is the given batch."""
        number = number if self.kept == 1 else number % self.kept
        return self._draw(batch_size(self.by_batch[index][0]), self._generator(index, number)) if number else None

    def _draw(self, count: int, generator: torch.Generator) -> Mixture:
        """Draw the shares and the partners of images, before anything else is drawn for a variant."""
        if not self.mixes:
            return Mixture(torch.ones(count), torch.arange(count))
        return Mixture(torch.rand(count, generator=generator), torch.randperm(count, generator=generator))
