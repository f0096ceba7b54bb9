"""Predictions for slightly moved images, whose mean shows how sure a model is of an image.

A classifier can be sure of images of a kind that it has never seen. Its predictions then change if such an image moves
by a pixel or two, while those for a kind that it knows do not. So the entropy of their mean tells more about what the
model knows than the entropy of one prediction (as test-time augmentation does for uncertainty in general: Ashukha et
al., 2002.06470).
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad
from transformers import PreTrainedModel

from transfuse.base.batch import Batch, without_labels
from transfuse.network.outputs import predict

MOVES = ((1, 0), (-1, 1), (0, -1))  # to the right and down, in steps; no direction is preferred
STEPS_PER_IMAGE = 32  # a step is this part of the height or width of an image, whichever is less


def can_be_moved(batch: Batch) -> bool:
    """Return whether a batch has images, and no texts, that are large enough to be moved by a pixel."""
    images = batch.get("pixel_values")
    return images is not None and images.ndim == 4 and "input_ids" not in batch and _step(images) > 0


@torch.no_grad()
def moved_probabilities(model: PreTrainedModel, batch: Batch) -> Float[Tensor, "move sample cls"]:
    """Return the probabilities that a classifier gives to the images of a batch after each move."""
    images = batch["pixel_values"]
    inputs = without_labels(batch)
    step = _step(images)
    moves = [predict(model, inputs | {"pixel_values": moved(images, *move, step)}) for move in MOVES]
    return torch.stack(moves).float().softmax(-1)


def moved_log_probabilities(model: PreTrainedModel, batch: Batch) -> Float[Tensor, "sample cls"]:
    """Return the logarithm of the mean probabilities that a classifier gives to the moved images of a batch."""
    return moved_probabilities(model, batch).mean(0).clamp_min(torch.finfo(torch.float32).tiny).log()


def moved(
    images: Float[Tensor, "sample channel height width"], right: int, down: int, step: int
) -> Float[Tensor, "sample channel height width"]:
    """Return images that are moved by some steps of some pixels. The pixels at an edge are repeated."""
    height, width = images.shape[-2:]
    padded = pad(images, (step,) * 4, mode="replicate")
    top, left = step * (1 - down), step * (1 - right)
    return padded[..., top : top + height, left : left + width]


def _step(images: Tensor) -> int:
    return round(min(images.shape[-2:]) / STEPS_PER_IMAGE)
