"""A fusion weights its models for every image by similar images, wherever weights are needed."""

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessorPil

from transfuse import fuse, match
from transfuse.distillation import similar_images
from transfuse.distillation.teacher_weighting import TEACHER_WEIGHTING
from transfuse.fusion.sample_weighting import sample_weighting

SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
PROCESSOR = ViTImageProcessorPil(do_resize=False, size={"height": 32, "width": 32})


def vit(seed: int) -> ViTForImageClassification:
    torch.manual_seed(seed)
    return ViTForImageClassification(ViTConfig(image_size=32, patch_size=8, num_labels=3, **SIZES)).eval()


def pictures(count: int = 60) -> list[Image.Image]:
    pixels = np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    return [Image.fromarray(each) for each in pixels]


@pytest.mark.parametrize(
    "options",
    [{"merge": "least-squares"}, {"merge": "learned", "steps": 6}, {"merge": "learned", "steps": 6, "augment": "none"}],
)
def test_no_image_is_examined_twice(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Fitting and training, with variants of images or without, find the weights of all given images."""

    def unexpected(outputs: object) -> None:
        raise AssertionError("an image of the fusion was not found")

    examined = []
    original = similar_images.moved_probabilities
    monkeypatch.setattr(similar_images, "by_entropy", unexpected)
    monkeypatch.setattr(
        similar_images,
        "moved_probabilities",
        lambda model, batch: examined.append(len(batch["pixel_values"])) or original(model, batch),
    )
    fused = fuse([vit(0), vit(1)], pictures(), processor=PROCESSOR, batch_size=10, **options)
    assert sum(examined) == 2 * 60
    assert all(values.isfinite().all() for values in fused.model.state_dict().values())


def test_equal_weights_examine_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(similar_images, "moved_probabilities", lambda *_: pytest.fail("examined"))
    fuse([vit(0), vit(1)], pictures(), processor=PROCESSOR, merge="least-squares", teacher_weighting="uniform")


def test_parents_without_heads_of_their_own_are_weighted_by_the_head_of_the_anchor() -> None:
    """The head that a source gets is noise, and would never be sure of anything."""
    options = {"merge": "least-squares", "head": "anchor", "teacher_weighting": "confidence"}
    matched = match([vit(0), vit(1)], pictures(), processor=PROCESSOR, **options)
    weighting = sample_weighting(matched)
    assert weighting is TEACHER_WEIGHTING["confidence"]


def test_two_images_suffice_for_learned_weights() -> None:
    """One trains and one validates; layers are fitted to both."""
    fused = fuse([vit(0), vit(1)], pictures(2), processor=PROCESSOR, merge="learned", steps=2)
    assert all(values.isfinite().all() for values in fused.model.state_dict().values())
