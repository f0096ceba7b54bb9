"""Train a small image classifier from scratch: the parents of the demo and of the benchmarks.

A plain loop, so that a parent is reproducible from its seed. Fine-tuning a fused model is another job.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy

from transfuse.data.augment import random_flip, random_shift
from transfuse.finetuning.schedule import Precision


@dataclass(frozen=True)
class Recipe:
    """AdamW with linear warm-up and a cosine decay to zero."""

    epochs: int
    batch_size: int = 128
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    warmup: float = 0.05
    label_smoothing: float = 0.1
    crop: int = 0
    flip: bool = False

    def scale(self, progress: float) -> float:
        """Learning-rate factor at `progress` in [0, 1]."""
        if progress < self.warmup:
            return progress / self.warmup
        cosine = torch.cos(torch.tensor((progress - self.warmup) / (1 - self.warmup) * torch.pi))
        return float(0.5 * (1 + cosine))


def fastest_precision(device: torch.device) -> Precision:
    """In which products are fastest: a CPU without AVX-512 only emulates bfloat16, ten times slower than float32."""
    emulated = device.type == "cpu" and not torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return "float32" if emulated else "bfloat16"


def autocast(device: torch.device, cached: bool = True) -> torch.autocast:
    """Inside, products are taken in that precision; `cached`: weights are converted once for as long as it lasts."""
    enabled = fastest_precision(device) == "bfloat16"
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled, cache_enabled=cached)


class LogitsModule(torch.nn.Module):
    """What a classifier says of images, and nothing else."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Float[Tensor, "batch channel height width"]) -> Float[Tensor, "batch cls"]:
        scores: Tensor = self.model(pixel_values=images).logits
        return scores


def with_cuda_graphs(module: torch.nn.Module, example: Tensor) -> torch.nn.Module:
    """The module for inputs like this one: on a GPU its passes are recorded once and replayed, since small kernels take
    longer to launch than to run."""
    if not example.is_cuda:
        return module
    with autocast(example.device, cached=False):
        torch.cuda.make_graphed_callables(module.train(), (example.clone(),))  # in place
    return module


def train_classifier(
    model: torch.nn.Module,
    images: Float[Tensor, "sample channel height width"],
    labels: Int[Tensor, " sample"],
    recipe: Recipe,
    seed: int,
    on_epoch: Callable[[int, float], None] = lambda epoch, loss: None,
) -> None:
    """Train `model` in place on prepared `images`; `on_epoch` gets the epoch and its mean loss."""
    scores = with_cuda_graphs(LogitsModule(model), images[: recipe.batch_size])

    def loss(chosen: Int[Tensor, " batch"], generator: torch.Generator) -> Float[Tensor, ""]:
        batch = images[chosen.to(images.device)]
        if recipe.crop:
            batch = random_shift(batch, recipe.crop, generator)
        if recipe.flip:
            batch = random_flip(batch, generator)
        wanted = labels[chosen.to(labels.device)]
        return cross_entropy(scores(batch).float(), wanted, label_smoothing=recipe.label_smoothing)

    train(model, len(images), loss, recipe, seed, on_epoch)


def train(
    model: torch.nn.Module,
    samples: int,
    loss: Callable[[Int[Tensor, " batch"], torch.Generator], Float[Tensor, ""]],
    recipe: Recipe,
    seed: int,
    on_epoch: Callable[[int, float], None] = lambda epoch, loss: None,
) -> None:
    """Minimise `loss` of random batches of `samples`, given by their indices; bfloat16 autocast where that is fast."""
    generator = torch.Generator().manual_seed(seed)
    device = next(model.parameters()).device
    optimizer = torch.optim.AdamW(model.parameters(), recipe.learning_rate, weight_decay=recipe.weight_decay)
    per_epoch = max(1, samples // recipe.batch_size)
    total = recipe.epochs * per_epoch
    model.train()
    for epoch in range(recipe.epochs):
        order = torch.randperm(samples, generator=generator)
        running = torch.zeros((), device=device)
        for step in range(per_epoch):
            optimizer.param_groups[0]["lr"] = recipe.learning_rate * recipe.scale((epoch * per_epoch + step) / total)
            chosen = order[step * recipe.batch_size : (step + 1) * recipe.batch_size]
            with autocast(device):
                value = loss(chosen, generator)
            optimizer.zero_grad()
            value.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            running += value.detach()
        on_epoch(epoch + 1, float(running) / per_epoch)
    model.eval()
