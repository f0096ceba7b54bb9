"""Train a small image classifier from scratch: the parents of the demo and of the benchmarks.

A plain loop, so that a parent is reproducible from its seed. Fine-tuning a fused model is another job.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy, pad


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


def augment(
    images: Float[Tensor, "batch channel height width"], recipe: Recipe, generator: torch.Generator
) -> Float[Tensor, "batch channel height width"]:
    """Random shift by up to `recipe.crop` pixels (zero padding) and random horizontal flip, per image."""
    batch, _, height, width = images.shape
    device = images.device
    if recipe.crop:
        span = 2 * recipe.crop + 1
        top, left = torch.randint(span, (2, batch), generator=generator).to(device)
        rows = (top[:, None] + torch.arange(height, device=device))[:, None, :, None]
        columns = (left[:, None] + torch.arange(width, device=device))[:, None, None, :]
        padded = pad(images, [recipe.crop] * 4)
        channels = torch.arange(images.shape[1], device=device)[None, :, None, None]
        images = padded[torch.arange(batch, device=device)[:, None, None, None], channels, rows, columns]
    if recipe.flip:
        flipped = (torch.rand(batch, generator=generator) < 0.5).to(device)
        images = torch.where(flipped[:, None, None, None], images.flip(-1), images)
    return images


def train_classifier(
    model: torch.nn.Module,
    images: Float[Tensor, "sample channel height width"],
    labels: Int[Tensor, " sample"],
    recipe: Recipe,
    seed: int,
    on_epoch: Callable[[int, float], None] = lambda epoch, loss: None,
) -> None:
    """Train `model` in place on prepared `images`; bfloat16 autocast; `on_epoch` gets the epoch and its mean loss."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), recipe.learning_rate, weight_decay=recipe.weight_decay)
    per_epoch = max(1, len(images) // recipe.batch_size)
    total = recipe.epochs * per_epoch
    model.train()
    for epoch in range(recipe.epochs):
        order = torch.randperm(len(images), generator=generator).to(images.device)
        running = 0.0
        for step in range(per_epoch):
            optimizer.param_groups[0]["lr"] = recipe.learning_rate * recipe.scale((epoch * per_epoch + step) / total)
            chosen = order[step * recipe.batch_size : (step + 1) * recipe.batch_size]
            batch = augment(images[chosen], recipe, generator)
            with torch.autocast(images.device.type, torch.bfloat16):
                logits = model(pixel_values=batch).logits
            loss = cross_entropy(logits.float(), labels[chosen], label_smoothing=recipe.label_smoothing)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            running += loss.item()
        on_epoch(epoch + 1, running / per_epoch)
    model.eval()
