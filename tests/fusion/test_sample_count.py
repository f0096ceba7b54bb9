"""How many samples are drawn by default."""

from typing import Any

import pytest
import torch
from datasets import Dataset
from PIL import Image
from transformers import GPT2Config, GPT2LMHeadModel, ViTConfig, ViTForImageClassification

from transfuse.config import options
from transfuse.config.options import Options
from transfuse.data.load import load_samples
from transfuse.fusion.sample_count import count_in_time, sample_count

IMAGES = load_samples(Dataset.from_dict({"image": [Image.new("RGB", (8, 8))] * 2}))
TEXTS = load_samples(Dataset.from_dict({"text": ["one", "two"]}))


@pytest.fixture(autouse=True)
def default(monkeypatch: pytest.MonkeyPatch) -> None:
    """Learn weights by default, as users do; other tests do not."""
    monkeypatch.setattr(options, "AUTO_MERGE", "learned")


def vit(side: int | tuple[int, int], width: int = 64, blocks: int = 2) -> ViTForImageClassification:
    config = ViTConfig(
        image_size=side, patch_size=8, hidden_size=width, num_hidden_layers=blocks, num_attention_heads=4,
        intermediate_size=4 * width,
    )  # fmt: skip
    with torch.device("meta"):
        return ViTForImageClassification(config)


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
def test_more_small_images_are_drawn_where_weights_are_learned(side: int, given: dict[str, Any], expected: int) -> None:
    assert sample_count(IMAGES, vit(side), Options(device="cpu", **given)) == expected


def test_a_large_model_reads_fewer_in_its_time() -> None:
    large = vit(32, width=384, blocks=7)
    five, thirty = (sample_count(IMAGES, large, Options(device="cpu", minutes=minutes)) for minutes in (5, 30))
    assert (five, thirty) == (3207, 10_000)
    wide = vit(32, width=768, blocks=12)
    given = ({}, {"effort": "quick"}, {"steps": 3}, {"samples": 400}, {"merge": "least-squares"})
    assert [sample_count(IMAGES, wide, Options(device="cpu", **each)) for each in given] == [470, 188, 2000, 400, 2000]
    assert sample_count(IMAGES, vit(224, width=768, blocks=12), Options(device="cpu")) == 100


def test_a_large_model_keeps_fewer_texts() -> None:
    wide = vit(32, width=768, blocks=12)  # of 85 million parameters
    given = ({}, {"effort": "quick"}, {"effort": "high"}, {"samples": 400})
    counts = [count_in_time(500, 128, wide, Options(device="cpu", **each)) for each in given]
    assert counts == [137, 100, 500, 500]
    assert count_in_time(500, 32, vit(32), Options(device="cpu")) == 500


def test_no_more_texts_are_drawn() -> None:
    assert sample_count(TEXTS, vit(32), Options(device="cpu")) == 2000
    config = GPT2Config(n_embd=8, n_layer=1, n_head=1, vocab_size=9)
    assert sample_count(IMAGES, GPT2LMHeadModel(config), Options(device="cpu")) == 2000
    assert sample_count(IMAGES, vit((16, 48)), Options(device="cpu")) == 10_000
