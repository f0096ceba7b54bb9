"""Variants of images: shifted, and mixed in pairs.

Mixed images (Zhang et al., 1710.09412) get the parents' predictions for the mixture, not a mixture of predictions: a
consistent teacher sees what the student sees (Beyer et al., 2106.05237).
"""

from collections.abc import Sequence

import torch

from transfuse.base.batch import Batch
from transfuse.data.augment import PADDING, random_shift
from transfuse.distillation.variants import Variants

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
        shifted = random_shift(given, max(1, round(PADDING * given.shape[-1])), generator)
        if not self.mixes:
            return {**variants[0], "pixel_values": shifted}
        share = torch.rand(len(shifted), 1, 1, 1, generator=generator).to(shifted)
        partner = torch.randperm(len(shifted), generator=generator).to(shifted.device)
        return {**variants[0], "pixel_values": share * shifted + (1 - share) * shifted[partner]}
