"""Token importance: classes are drawn on the device, with the probabilities that the model gives them."""

import torch

from transfuse.base import draw
from transfuse.network.output_losses import SOFTMAX


def test_classes_are_drawn_with_their_probabilities(monkeypatch):
    monkeypatch.setattr(draw, "MAX_SLICE", 4000)  # several slices
    probabilities = torch.tensor([0.1, 0.2, 0.0, 0.7])
    scores = probabilities.log().expand(100_000, 4)
    drawn = probabilities - SOFTMAX.drawn_gradients(scores, torch.Generator().manual_seed(0))
    assert torch.equal(drawn.round().sum(1), torch.ones(100_000))
    assert (drawn.mean(0) - probabilities).abs().max() < 0.01
    assert drawn[:, 2].abs().max() == 0


def test_the_same_seed_draws_the_same_classes():
    scores = torch.randn(50, 30)
    first, second = (SOFTMAX.drawn_gradients(scores, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first, second)
