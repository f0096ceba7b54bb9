"""Models are weighted for an image by what becomes of their predictions for images that look like it."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from transformers import ViTConfig, ViTForImageClassification

from transfuse.base.batch import Batch, split_batch
from transfuse.distillation import similar_images
from transfuse.distillation.moved_images import moved_probabilities
from transfuse.distillation.similar_images import SimilarImages, are_comparable, mean_of_similar
from transfuse.distillation.teacher_weighting import TeacherOutputs, by_entropy, teacher_weights
from transfuse.network.outputs import predict
from transfuse.network.precision import mixed_precision

SIZES = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}


def vit(seed: int) -> ViTForImageClassification:
    torch.manual_seed(seed)
    config = ViTConfig(image_size=32, patch_size=8, num_channels=1, num_labels=5, initializer_range=0.5, **SIZES)
    return ViTForImageClassification(config).eval()


def images(seed: int, count: int = 50) -> Tensor:
    return torch.randn(count, 1, 32, 32, generator=torch.Generator().manual_seed(seed))


MODELS = [vit(0), vit(1)]
BATCHES = [{"pixel_values": images(seed)} for seed in range(2)]


def weigh(method: Callable[[TeacherOutputs], Tensor], batch: Batch) -> Tensor:
    logits = [[predict(model, batch)] for model in MODELS]
    return method(TeacherOutputs(logits, [0.3, 0.7], batch, models=MODELS))


def test_the_mean_over_similar_samples() -> None:
    """There are two groups of forty samples, and all neighbors of a sample belong to its own group."""
    small = torch.randn(80, 4) * 0.01 + torch.arange(2).repeat(40)[:, None]
    values = torch.stack([torch.arange(2.0).repeat(40), torch.zeros(80)])
    torch.testing.assert_close(mean_of_similar(values, small), values)
    few = mean_of_similar(torch.arange(5.0)[None], torch.randn(5, 4))
    torch.testing.assert_close(few, torch.arange(5.0)[None])  # too few to have neighbors


def test_weights_of_one_image_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without neighbors, an image's penalty is its entropy and twice what moves change."""
    monkeypatch.setattr(similar_images, "NEIGHBORS", 1)
    found = weigh(SimilarImages(MODELS, [0.3, 0.7], BATCHES), BATCHES[0])
    penalties = []
    for model in MODELS:
        with mixed_precision(model.device):
            given = moved_probabilities(model, BATCHES[0])
        entropy = torch.distributions.Categorical(given.mean(0)).entropy()
        penalties.append(entropy + 2 * (entropy - torch.distributions.Categorical(given).entropy().mean(0)))
    scores = torch.tensor([0.3, 0.7])[:, None] * torch.stack(penalties).mul(-4).exp()
    torch.testing.assert_close(found, scores / scores.sum(0), rtol=1e-3, atol=1e-3)


def test_every_image_is_examined_once_in_any_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(
        similar_images, "moved_probabilities", lambda model, batch: seen.append(1) or moved_probabilities(model, batch)
    )
    weighting = SimilarImages(MODELS, [0.3, 0.7], BATCHES)
    assert not seen
    whole = weigh(weighting, BATCHES[1])
    halves = [weigh(weighting, part) for part in split_batch(BATCHES[1], 25)]
    torch.testing.assert_close(torch.cat(halves, 1), whole)
    torch.testing.assert_close(teacher_weights(weighting, MODELS, [0.3, 0.7], BATCHES[1]), whole)
    assert len(seen) == len(MODELS) * len(BATCHES)


def test_other_images_are_weighted_by_their_entropy() -> None:
    other = {"pixel_values": images(7)}
    weighting = SimilarImages(MODELS, [0.3, 0.7], BATCHES)
    torch.testing.assert_close(weigh(weighting, other), weigh(by_entropy, other))


def test_a_kind_of_images_that_a_model_does_not_know() -> None:
    """Predictions of the first model change for bright images only, and by chance not for one of them."""
    kinds = torch.arange(2).repeat(200)
    small = torch.randn(400, 4) * 0.1 + kinds[:, None]
    change = torch.stack([kinds * 0.3, torch.full((400,), 0.1)])
    change[0, 1] = 0.0
    means = mean_of_similar(change, small)
    assert means[0, 1] > 0.25
    assert means[0, 0] < 0.05


def test_what_can_be_compared() -> None:
    assert are_comparable(MODELS, BATCHES[0])
    assert not are_comparable(MODELS[:1], BATCHES[0])
    assert not are_comparable(MODELS, {"pixel_values": torch.zeros(2, 1, 8, 8)})
    regression = ViTForImageClassification(ViTConfig(image_size=32, num_labels=1, problem_type="regression", **SIZES))
    assert not are_comparable([regression, regression], BATCHES[0])
