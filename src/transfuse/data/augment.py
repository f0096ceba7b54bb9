"""Random changes of training images that keep their class."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from transfuse.config.literals import Augment

PADDING = 1 / 8  # of an image's side: how far a crop may shift it, 4 pixels of 32

Images = Float[Tensor, "batch channel height width"]


def random_shift(images: Images, pixels: int, generator: torch.Generator | None = None) -> Images:
    """Each image moved at random by up to `pixels` along both sides, zeros moving in: a crop of the padded image."""
    batch, channels, height, width = images.shape
    device = images.device
    top, left = torch.randint(2 * pixels + 1, (2, batch), generator=generator).to(device)
    rows = (top[:, None] + torch.arange(height, device=device))[:, None, :, None]
    columns = (left[:, None] + torch.arange(width, device=device))[:, None, None, :]
    each = torch.arange(batch, device=device)[:, None, None, None]
    return pad(images, [pixels] * 4)[each, torch.arange(channels, device=device)[None, :, None, None], rows, columns]


def random_flip(images: Images, generator: torch.Generator | None = None) -> Images:
    """Each image mirrored, left to right, with probability one half."""
    chosen = (torch.rand(len(images), generator=generator) < 0.5).to(images.device)
    return torch.where(chosen[:, None, None, None], images.flip(-1), images)


def augment(images: Images, how: Augment, generator: torch.Generator) -> Images:
    """Shifted, flipped, both, or as they are."""
    if "crop" in how:
        images = random_shift(images, max(1, round(PADDING * images.shape[-1])), generator)
    return random_flip(images, generator) if "flip" in how else images
