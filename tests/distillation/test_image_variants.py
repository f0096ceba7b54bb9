"""Variants of images: shifted, and mixed in pairs."""

import pytest
import torch
from cases import CASES

from transfuse.config.literals import LearningOptions
from transfuse.distillation.image_variants import ImageVariants
from transfuse.distillation.teacher_weighting import TeacherOutputs, uniform
from transfuse.merging.training.learned_weights import WeightDistillation


def test_a_variant_is_a_mixture_of_shifted_images():
    images = torch.zeros(2, 1, 8, 8)
    images[0, 0, 4, 4], images[1, 0, 2, 2] = 1.0, 10.0
    (variant,) = [ImageVariants([{"pixel_values": images}], 4, seed).variant(0, 1)["pixel_values"] for seed in (3,)]
    light = variant.sum((1, 2, 3))
    assert ((light >= 1.0 - 1e-5) & (light <= 10.0 + 1e-5)).all()
    assert not torch.equal(variant, images)
    for image in variant:
        rows, columns = (image[0] > 0).nonzero(as_tuple=True)
        near = [abs(row - 4) <= 1 and abs(column - 4) <= 1 for row, column in zip(rows, columns, strict=True)]
        far = [abs(row - 2) <= 1 and abs(column - 2) <= 1 for row, column in zip(rows, columns, strict=True)]
        assert all(one or other for one, other in zip(near, far, strict=True))


def test_variants_depend_on_their_number_and_the_seed_only():
    batch = {"pixel_values": torch.randn(5, 3, 16, 16, generator=torch.Generator().manual_seed(0))}
    variants, others = ImageVariants([batch], 8), ImageVariants([batch], 1)
    assert variants.variant(0, 0) is batch
    in_order = [variants.variant(0, number)["pixel_values"] for number in range(4)]
    assert torch.equal(in_order[3], others.variant(0, 3)["pixel_values"])
    assert not torch.equal(in_order[2], in_order[3])
    assert variants.variant(0, 8) is batch
    assert not torch.equal(others.variant(0, 8)["pixel_values"], batch["pixel_values"])


def test_images_keep_their_labels_if_they_are_not_mixed():
    image = torch.zeros(1, 1, 16, 16)
    image[0, 0, 8, 8] = 1.0
    batch = {"pixel_values": torch.cat([image, 2 * image]), "labels": torch.tensor([1, 2])}
    variant = ImageVariants([batch], 4, mixes=False).variant(0, 1)
    assert variant["pixel_values"].amax((1, 2, 3)).tolist() == variant["labels"].tolist()


def test_only_the_automatic_changes_of_images_are_variants():
    case = next(case for case in CASES if case.name == "ViTForImageClassification")
    generator = torch.Generator().manual_seed(0)
    shape = (5, case.build(1).config.num_channels, *[case.build(1).config.image_size] * 2)
    images = torch.randn(shape, generator=generator)
    halves = ([{"pixel_values": images, "labels": torch.zeros(len(images), dtype=torch.long)}],) * 2
    for augment, objective, expected in (
        ("auto", "parents", True), ("none", "parents", False), ("flip", "parents", False), ("auto", "labels", False)
    ):  # fmt: skip
        options = LearningOptions(steps=2, augment=augment, objective=objective)
        loop = WeightDistillation(case.build(3), [case.build(1)], [1.0], halves, options, uniform, (), 0)
        assert isinstance(loop.variants, ImageVariants) == expected


@pytest.mark.parametrize("kept", [1, 3])
def test_the_mixture_says_what_a_variant_is_made_of(kept: int) -> None:
    brightness = torch.tensor([1.0, 2.0, 5.0, 9.0])
    batch = {"pixel_values": brightness[:, None, None, None].expand(4, 1, 16, 16)}
    variants = ImageVariants([batch], kept, seed=2)
    assert variants.mixture(0, 0) is None
    for number in (1, 2, 4):
        mixture = variants.mixture(0, number)
        assert mixture is not None
        center = variants.variant(0, number)["pixel_values"][:, 0, 8, 8]
        assert torch.allclose(center, mixture.of(brightness[None])[0])
    assert (variants.mixture(0, 3) is None) == (kept == 3)
    alone = ImageVariants([batch], kept, mixes=False).mixture(0, 1)
    assert torch.equal(alone.of(brightness[None])[0], brightness)


def test_a_variant_has_the_weights_of_the_images_that_it_is_made_of() -> None:
    case = next(case for case in CASES if case.name == "ViTForImageClassification")
    shape = (5, case.build(1).config.num_channels, *[case.build(1).config.image_size] * 2)
    images = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    halves = ([{"pixel_values": images, "labels": torch.zeros(len(images), dtype=torch.long)}],) * 2
    calls: list[int] = []

    def weighting(outputs: TeacherOutputs) -> torch.Tensor:
        images = outputs.batch["pixel_values"]
        calls.append(len(images))
        first = images.mean((1, 2, 3)).sigmoid()
        return torch.stack([first, 1 - first])

    parents = [case.build(1), case.build(2)]
    loop = WeightDistillation(case.build(3), parents, [0.5, 0.5], halves, LearningOptions(steps=2), weighting, (), 0)
    asked = len(calls)
    given = loop.targets.shares_of(loop.train_batches[0])
    loop._training_batch(0)
    variant = loop._training_batch(0)
    mixture = loop.variants.mixture(0, 1)
    found = loop._parent_means(variant).targets[slice(None)]
    answers = [model(pixel_values=variant["pixel_values"]).logits.softmax(-1) for model in parents]
    shares = mixture.of(given).to(answers[0])
    expected = sum(share[:, None] * answer for share, answer in zip(shares, answers, strict=True))
    assert torch.allclose(found.to(expected), expected, atol=1e-5)
    assert len(calls) == asked
