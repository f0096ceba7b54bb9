"""A classifier whose predictions change if an image moves by a pixel is not sure of it."""

import pytest
import torch
from cases import CASES
from transformers import ViTConfig, ViTForImageClassification

from transfuse.distillation.moved_images import MOVES, can_be_moved, moved, moved_log_probabilities
from transfuse.distillation.teacher_weighting import TeacherOutputs, by_entropy, teacher_weights
from transfuse.network.outputs import predict

SIZES = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
IMAGES = {"pixel_values": torch.randn(6, 1, 32, 32, generator=torch.Generator().manual_seed(0))}


def vit(seed: int, spread: float = 0.02) -> ViTForImageClassification:
    torch.manual_seed(seed)
    config = ViTConfig(image_size=32, patch_size=8, num_channels=1, num_labels=5, initializer_range=spread, **SIZES)
    return ViTForImageClassification(config).eval()


@pytest.mark.parametrize("step", [1, 3])
def test_images_move_and_their_edges_are_repeated(step: int) -> None:
    images = torch.arange(49.0).reshape(1, 1, 7, 7)
    right = moved(images, 1, 0, step)
    torch.testing.assert_close(right[..., step:], images[..., :-step])
    torch.testing.assert_close(right[..., :step], images[..., :1].expand(-1, -1, -1, step))
    torch.testing.assert_close(moved(images, 0, 1, step)[..., step:, :], images[..., :-step, :])
    torch.testing.assert_close(moved(images, 0, 0, step), images)
    assert [sum(amounts) for amounts in zip(*MOVES, strict=True)] == [0, 0]


def test_only_images_of_some_pixels_move() -> None:
    assert can_be_moved(IMAGES)
    assert not can_be_moved({"pixel_values": torch.zeros(2, 1, 8, 8)})
    assert not can_be_moved({"pixel_values": torch.zeros(2, 16, 48)})  # patches in a row
    assert not can_be_moved({"input_ids": torch.ones(2, 3, dtype=torch.long)})
    pair = next(case for case in CASES if case.name == "CLIPModel")
    assert not can_be_moved(pair.inputs(pair.build().config))


def test_the_mean_is_that_of_the_probabilities() -> None:
    model = vit(0)
    found = moved_log_probabilities(model, IMAGES | {"labels": torch.zeros(6, dtype=torch.long)})
    each = [predict(model, {"pixel_values": moved(IMAGES["pixel_values"], *move, 1)}).softmax(-1) for move in MOVES]
    torch.testing.assert_close(found.exp(), torch.stack(each).mean(0))


def test_who_is_sure_of_any_image_but_changes_its_mind_is_not_believed() -> None:
    """The first model tells noise apart by large weights. The second one says the same of all images."""
    jumpy, steady = vit(1, spread=1.0), vit(2)
    with torch.no_grad():
        jumpy.classifier.weight.mul_(5)
        steady.classifier.weight.zero_()
        steady.classifier.bias[0] = 3.0
    said = [[predict(model, IMAGES)] for model in (jumpy, steady)]
    believed = by_entropy(TeacherOutputs(said, [0.5, 0.5], IMAGES))
    assert believed[0].mean() > 0.6
    assert teacher_weights(by_entropy, [jumpy, steady], [0.5, 0.5], IMAGES)[0].mean() < 0.4
