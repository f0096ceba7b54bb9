"""Models that take images of any size read those that their processors make."""

import numpy as np
import PIL.Image
import pytest
import torch
from pictures import processor_of
from transformers import (
    Dinov2Config,
    Dinov2ForImageClassification,
    DINOv3ViTConfig,
    DINOv3ViTModel,
    PreTrainedModel,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessorPil,
)

import transfuse
from transfuse.config.literals import LearningOptions
from transfuse.data.load import load_samples
from transfuse.data.sample_budget import SampleBudget

ROWS = [
    {
        "image": PIL.Image.fromarray(np.random.default_rng(row).integers(0, 255, (24, 24, 3)).astype("uint8")),
        "label": row % 2,
    }
    for row in range(8)
]
PROCESSOR = processor_of(ViTConfig(image_size=16))
SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 28, "patch_size": 4}


def classifier(seed: int) -> Dinov2ForImageClassification:
    torch.manual_seed(seed)
    return Dinov2ForImageClassification(Dinov2Config(**SIZES, mlp_ratio=2, num_labels=2)).eval()


def backbone(seed: int) -> DINOv3ViTModel:
    torch.manual_seed(seed)
    return DINOv3ViTModel(DINOv3ViTConfig(**SIZES, intermediate_size=32)).eval()


def test_a_model_is_measured_on_the_images_that_its_processor_makes() -> None:
    model = classifier(1)
    pixels = PROCESSOR([row["image"] for row in ROWS], return_tensors="pt")
    labels = torch.tensor([row["label"] for row in ROWS])
    with torch.no_grad():
        expected = model(**pixels, labels=labels).loss
    found = transfuse.evaluate(model, ROWS, processor=PROCESSOR).records()[0]["loss"]
    assert found == pytest.approx(float(expected), abs=1e-4)


@pytest.mark.parametrize("build", [classifier, backbone])
def test_models_are_fused_on_the_images_that_their_processor_makes(build: type[PreTrainedModel]) -> None:
    models = [build(seed) for seed in (1, 2)]
    settings = {"data": ROWS, "processor": PROCESSOR, "samples": 8, "merge": "mean", "match_on": "activations"}
    assert transfuse.fuse(models, **settings).record["calibration_samples"] == 8


def test_a_window_is_of_the_patches_of_these_images() -> None:
    """All of the 4 x 4 patches are a window of four, and it has other tokens than a window of two."""

    def fused(tokens: str) -> dict[str, torch.Tensor]:
        flow = {"align": "flow", "flow": {"tokens": tokens}, "merge": "mean", "samples": 8}
        models = [classifier(seed) for seed in (1, 2)]
        return transfuse.fuse(models, data=ROWS, processor=PROCESSOR, **flow).model.state_dict()

    with pytest.raises(transfuse.TransfuseError, match="window-5 is larger than the grid of 4 x 4 patches"):
        fused("window-5")
    two, four = fused("window-2"), fused("window-4")
    assert any(not torch.equal(values, four[name]) for name, values in two.items())


def test_small_images_are_drawn_as_many_as_their_size_allows() -> None:
    with torch.device("meta"):
        sizes = SIZES | {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "image_size": 224}
        large = Dinov2ForImageClassification(Dinov2Config(**sizes))
    budget = SampleBudget(2000, LearningOptions(), torch.device("cpu"))
    counts = [
        budget.drawn(load_samples(ROWS), large, large, processor_of(ViTConfig(image_size=size))) for size in (16, 64)
    ]
    assert counts[0] > counts[1]


def test_images_that_are_wider_than_high() -> None:
    sizes = SIZES | {"image_size": [16, 32], "intermediate_size": 32}
    model = ViTForImageClassification(ViTConfig(**sizes, num_labels=2)).eval()
    processor = ViTImageProcessorPil(size={"height": 16, "width": 32})
    with torch.no_grad():
        scores = model(**processor([row["image"] for row in ROWS], return_tensors="pt")).logits
    expected = torch.nn.functional.cross_entropy(scores, torch.tensor([row["label"] for row in ROWS]))
    (record,) = transfuse.evaluate(model, ROWS, processor=processor).records()
    assert record["loss"] == pytest.approx(float(expected), abs=1e-6)
