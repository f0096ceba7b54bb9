"""Train the parents of benchmarks from scratch, on a CPU or a GPU."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy

from transfuse.cli.demo import training
from transfuse.config.finetune_options import Precision
from transfuse.data.image.augment import random_flip, random_shift


@dataclass(frozen=True)
class Recipe(training.Recipe):
    """Hold the options of training, with those of augmentation.

    Attributes:
        crop: the largest shift of an image in pixels.
        flip: whether to flip images at random.
    """

    crop: int = 0
    flip: bool = False


def fastest_precision(device: torch.device) -> Precision:
    """Return the precision of the fastest matrix products.

    A CPU without AVX-512 emulates bfloat16, which is ten times slower than float32.
    """
    emulated = device.type == "cpu" and not torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return "float32" if emulated else "bfloat16"


def autocast(device: torch.device, cached: bool = True) -> torch.autocast:
    """Return a context that computes in the fastest precision. `cached`: weights are converted once per context."""
    enabled = fastest_precision(device) == "bfloat16"
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled, cache_enabled=cached)


class LogitsModule(torch.nn.Module):
    """Map images to the logits of a classifier."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Float[Tensor, "batch channel height width"]) -> Float[Tensor, "batch cls"]:
        logits: Tensor = self.model(pixel_values=images).logits
        return logits


def with_cuda_graphs(module: torch.nn.Module, example: Tensor) -> torch.nn.Module:
    """Return a module for inputs of the shape of `example`.

    On a GPU, its passes are recorded once and replayed, since small kernels take longer to launch than to run.
    """
    if not example.is_cuda:
        return module
    with autocast(example.device, cached=False):
        torch.cuda.make_graphed_callables(module.train(), (example.clone(),))  # changes the module in place
    return module


def train_classifier(
    model: torch.nn.Module,
    images: Float[Tensor, "sample channel height width"],
    labels: Int[Tensor, " sample"],
    recipe: Recipe,
    seed: int,
    on_epoch: Callable[[int, float], None] = lambda epoch, loss: None,
) -> None:
    """Train `model` in place on prepared `images`. `on_epoch` receives the epoch and its mean loss."""
    classify = with_cuda_graphs(LogitsModule(model), images[: recipe.batch_size])

    def loss(indices: Int[Tensor, " batch"], generator: torch.Generator) -> Float[Tensor, ""]:
        batch = images[indices.to(images.device)]
        if recipe.crop:
            batch = random_shift(batch, recipe.crop, generator)
        if recipe.flip:
            batch = random_flip(batch, generator)
        targets = labels[indices.to(labels.device)]
        return cross_entropy(classify(batch).float(), targets, label_smoothing=recipe.label_smoothing)

    train(model, len(images), loss, recipe, seed, on_epoch)


def train(
    model: torch.nn.Module,
    samples: int,
    loss: training.LossFn,
    recipe: Recipe,
    seed: int,
    on_epoch: Callable[[int, float], None] = lambda epoch, loss: None,
) -> None:
    """Train `model` in place by minimizing `loss` on random batches, in the fastest precision.

    Args:
        samples: the number of samples.
        loss: the loss of a batch, from the indices of its samples and a random generator.
        on_epoch: receives the epoch and its mean loss.
    """
    device = next(model.parameters()).device

    def fast_loss(indices: Int[Tensor, " batch"], generator: torch.Generator) -> Float[Tensor, ""]:
        with autocast(device):
            return loss(indices, generator)

    for epoch, mean in enumerate(training.epochs(model, samples, fast_loss, recipe, seed), 1):
        on_epoch(epoch, mean)
