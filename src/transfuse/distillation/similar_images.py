"""Weights of image classifiers for given images, from what each makes of an image and of the images that look like it.

If a model does not know a kind of images, its predictions change when these images move by a pixel. One image shows
this poorly: it may be easy or hard for any model. The mean over the images that look most like it tells more. How much
predictions change is what the entropy of the mean prediction has beyond the mean entropy (the mutual information of
prediction and move; Houlsby et al., 1112.5745).
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d
from transformers import PreTrainedModel

from transfuse.base.batch import Batch, is_labeled_per_sample
from transfuse.distillation.moved_images import can_be_moved, moved_probabilities
from transfuse.distillation.teacher_weighting import Shares, TeacherOutputs, by_entropy, penalized
from transfuse.network.output_losses import SOFTMAX, output_loss
from transfuse.network.precision import mixed_precision

DISAGREEMENT = 2.0  # weight of the change of predictions for similar images, where the entropy of an image has weight 1
SIDE = 8  # images are compared at this height and width
NEIGHBORS = 50  # images that count as similar; at most one in `IMAGES_PER_NEIGHBOR`
IMAGES_PER_NEIGHBOR = 20
COMPARED_AT_ONCE = 500

Values = Float[Tensor, "model sample"]
Track = Callable[[Sequence[Batch]], Iterable[Batch]]


def are_comparable(models: Sequence[PreTrainedModel], batch: Batch) -> bool:
    """Return whether `SimilarImages` can weight models: several classifiers of images that can be moved."""
    classify = len(models) > 1 and output_loss(models[0]) is SOFTMAX and is_labeled_per_sample(batch)
    return classify and can_be_moved(batch)


class SimilarImages:
    """Weight models for images, by the entropy of their predictions and by what similar images show.

    An instance is a `WeightingFn`. It computes the weights of all given images when it is first called. `by_entropy`
    weights other images.
    """

    def __init__(
        self,
        models: Sequence[PreTrainedModel],
        weights: Sequence[float],
        batches: Sequence[Batch],
        track: Track = iter,
    ) -> None:
        """
        Args:
            models: classifiers of one set of classes.
            weights: one weight per model. They sum to one.
            batches: the given images.
            track: iterates over the batches and displays progress.
        """
        self.models = models
        self.weights = weights
        self.batches = batches
        self.track = track

    def __call__(self, outputs: TeacherOutputs) -> Shares:
        """Return the weight of each model for each image."""
        keys = list(_keys(outputs.batch))
        if not all(key in self._by_image for key in keys):
            return by_entropy(outputs)
        return torch.stack([self._by_image[key] for key in keys], 1).to(self.models[0].device)

    @cached_property
    def _by_image(self) -> dict[bytes, Float[Tensor, " model"]]:
        """Return the weights of the given images by their keys."""
        small, entropies, changes = zip(*map(self._examine, self.track(self.batches)), strict=True)
        change = mean_of_similar(torch.cat(changes, 1), torch.cat(small))
        shares = penalized(self.weights, torch.cat(entropies, 1) + DISAGREEMENT * change)
        keys = [key for batch in self.batches for key in _keys(batch)]
        return dict(zip(keys, shares.unbind(1), strict=True))

    @torch.no_grad()
    def _examine(self, batch: Batch) -> tuple[Float[Tensor, "sample pixel"], Values, Values]:
        """Return small images, the entropy of each model's mean prediction, and how much its predictions change."""
        with mixed_precision(self.models[0].device):
            moved = torch.stack([moved_probabilities(model, batch) for model in self.models]).cpu()
        entropies = _entropy(moved.mean(1))
        return thumbnails(batch), entropies, entropies - _entropy(moved).mean(1)


def mean_of_similar(values: Values, small: Float[Tensor, "sample pixel"]) -> Values:
    """Return the mean of the values of the samples that look most like each sample, itself included."""
    count = max(1, min(NEIGHBORS, len(small) // IMAGES_PER_NEIGHBOR))
    near = torch.cat(
        [torch.cdist(part, small).topk(count, largest=False).indices for part in small.split(COMPARED_AT_ONCE)]
    )
    return values[:, near].mean(-1)


def thumbnails(batch: Batch) -> Float[Tensor, "sample pixel"]:
    """Return images in small, as rows."""
    return adaptive_avg_pool2d(batch["pixel_values"].float().cpu(), SIDE).flatten(1)


def _entropy(probabilities: Float[Tensor, "*batch cls"]) -> Float[Tensor, "*batch"]:
    return torch.special.entr(probabilities).sum(-1)


def _keys(batch: Batch) -> Iterator[bytes]:
    """Yield what tells the images of a batch from others."""
    images = batch["pixel_values"].detach().cpu().contiguous().view(torch.uint8).flatten(1)
    for image in images.numpy():
        yield hashlib.blake2b(image.tobytes(), digest_size=16).digest()
