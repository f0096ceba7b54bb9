"""A small model of images that is trained sees more images than one that is only fitted."""

from typing import Any

import pytest
from datasets import Dataset, concatenate_datasets
from transformers import ViTConfig, ViTForImageClassification

from transfuse import shrink
from transfuse.cli.demo.digits import digits, processor

SHAPE = {"image_size": 8, "patch_size": 4, "num_channels": 1, "hidden_size": 16, "num_hidden_layers": 1}
HEADS = {"num_attention_heads": 2, "intermediate_size": 32}


@pytest.fixture(scope="module")
def scans() -> Dataset:
    """Return 2,150 images without labels."""
    given = digits()["train"].remove_columns("label")
    return concatenate_datasets([given] * 3).select(range(2150))


@pytest.mark.parametrize(
    ("options", "count"), [({"effort": "quick"}, 2000), ({"steps": 21}, 2100), ({"steps": 21, "samples": 50}, 50)]
)
def test_training_reads_more_images(scans: Dataset, options: dict[str, Any], count: int) -> None:
    model = ViTForImageClassification(ViTConfig(**SHAPE, **HEADS, num_labels=10)).eval()
    small = shrink(model, scans, intermediate_size=16, processor=processor(), **options)
    assert small.record["calibration_samples"] == count
