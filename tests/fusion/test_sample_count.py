"""How many samples are drawn by default."""

from typing import Any

import pytest
from datasets import Dataset
from PIL import Image
from transformers import PretrainedConfig, ViTConfig

from transfuse.config import options
from transfuse.config.options import Options
from transfuse.data.load import load_samples
from transfuse.fusion.sample_count import sample_count

IMAGES = load_samples(Dataset.from_dict({"image": [Image.new("RGB", (8, 8))] * 2}))
TEXTS = load_samples(Dataset.from_dict({"text": ["one", "two"]}))


@pytest.fixture(autouse=True)
def default(monkeypatch: pytest.MonkeyPatch) -> None:
    """Learn weights by default, as users do; other tests do not."""
    monkeypatch.setattr(options, "AUTO_MERGE", "learned")


@pytest.mark.parametrize(
    ("side", "given", "expected"),
    [
        (32, {}, 10_000),
        (96, {}, 4854),
        (224, {}, 2000),
        (32, {"samples": 300}, 300),
        (32, {"effort": "quick"}, 2000),
        (32, {"steps": 3}, 2000),
        (32, {"steps": 50}, 5000),
        (32, {"merge": "least-squares"}, 2000),
        (32, {"align": "flow"}, 200),
        (32, {"align": "flow", "merge": "learned"}, 10_000),
    ],
)
def test_of_small_images_there_are_more_where_weights_are_learned(
    side: int, given: dict[str, Any], expected: int
) -> None:
    assert sample_count(IMAGES, ViTConfig(image_size=side), Options(**given)) == expected


def test_of_texts_and_other_configurations_there_are_not() -> None:
    assert sample_count(TEXTS, ViTConfig(image_size=32), Options()) == 2000
    assert sample_count(IMAGES, PretrainedConfig(), Options()) == 2000
    assert sample_count(IMAGES, ViTConfig(image_size=(16, 48)), Options()) == 10_000
