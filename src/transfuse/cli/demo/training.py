"""Train the parents of the demo from scratch. The loop is plain, so that a seed reproduces a parent."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy

LossFn = Callable[[Int[Tensor, " batch"], torch.Generator], Float[Tensor, ""]]


@dataclass(frozen=True)
class Recipe:
    """Hold the options of training with AdamW, linear warmup and cosine decay to zero.

    Attributes:
        warmup: the fraction of the steps for warmup.
    """

    epochs: int
    batch_size: int = 128
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    warmup: float = 0.05
    label_smoothing: float = 0.1

    def scale(self, progress: float) -> float:
        """Return the factor of the learning rate at `progress` in [0, 1]."""
        if progress < self.warmup:
            return progress / self.warmup
        cosine = torch.cos(torch.tensor((progress - self.warmup) / (1 - self.warmup) * torch.pi))
        return float(0.5 * (1 + cosine))


def train_classifier(
    model: torch.nn.Module,
    images: Float[Tensor, "sample channel height width"],
    labels: Int[Tensor, " sample"],
    recipe: Recipe,
    seed: int,
) -> None:
    """Train `model` in place on prepared `images`, on the CPU, in bfloat16 if the CPU does not emulate it."""
    fast = torch.ops.mkldnn._is_mkldnn_bf16_supported()

    def loss(batch: Int[Tensor, " batch"], generator: torch.Generator) -> Float[Tensor, ""]:
        with torch.autocast("cpu", torch.bfloat16, enabled=fast):
            logits = model(pixel_values=images[batch]).logits.float()
            return cross_entropy(logits, labels[batch], label_smoothing=recipe.label_smoothing)

    for _ in epochs(model, len(images), loss, recipe, seed):
        pass


def epochs(model: torch.nn.Module, samples: int, loss: LossFn, recipe: Recipe, seed: int) -> Iterator[float]:
    """Train `model` in place by minimizing `loss` on random batches, and yield the mean loss of each epoch.

    Args:
        samples: the number of samples.
        loss: the loss of a batch, from the indices of its samples and a random generator.
    """
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), recipe.learning_rate, weight_decay=recipe.weight_decay)
    per_epoch = max(1, samples // recipe.batch_size)
    steps = recipe.epochs * per_epoch
    model.train()
    for epoch in range(recipe.epochs):
        order = torch.randperm(samples, generator=generator)
        total_loss = torch.zeros((), device=next(model.parameters()).device)
        for step in range(per_epoch):
            optimizer.param_groups[0]["lr"] = recipe.learning_rate * recipe.scale((epoch * per_epoch + step) / steps)
            value = loss(order[step * recipe.batch_size : (step + 1) * recipe.batch_size], generator)
            optimizer.zero_grad()
            value.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            total_loss += value.detach()
        yield float(total_loss) / per_epoch
    model.eval()
