"""Random augmentation of training images."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from transfuse.config.literals import Augment

PADDING = 1 / 8  # largest shift of a crop, relative to the side of an image: 4 pixels of 32

Images = Float[Tensor, "batch channel height width"]


def random_shift(images: Images, pixels: int, generator: torch.Generator) -> Images:
    """Shift each image by up to `pixels` in both directions, filled with zeros: a random crop of the padded image."""
    batch, channels, height, width = images.shape
    device = images.device
    top, left = torch.randint(2 * pixels + 1, (2, batch), generator=generator).to(device)
    rows = (top[:, None] + torch.arange(height, device=device))[:, None, :, None]
    columns = (left[:, None] + torch.arange(width, device=device))[:, None, None, :]
    image = torch.arange(batch, device=device)[:, None, None, None]
    channel = torch.arange(channels, device=device)[None, :, None, None]
    return pad(images, [pixels] * 4)[image, channel, rows, columns]


def random_flip(images: Images, generator: torch.Generator) -> Images:
    """Flip each image left to right with probability 1/2."""
    flip = (torch.rand(len(images), generator=generator) < 0.5).to(images.device)
    return torch.where(flip[:, None, None, None], images.flip(-1), images)


def augment(images: Images, method: Augment, generator: torch.Generator) -> Images:
    """Shift images, flip them, do both, or return them unchanged, as `method` says."""
    if "crop" in method:
        images = random_shift(images, max(1, round(PADDING * images.shape[-1])), generator)
    return random_flip(images, generator) if "flip" in method else images
