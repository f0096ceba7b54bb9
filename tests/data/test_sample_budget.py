"""How many samples are drawn by default."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from PIL import Image
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    OlmoeConfig,
    OlmoeForCausalLM,
    PreTrainedModel,
    ViTConfig,
    ViTForImageClassification,
)

from transfuse.config import options
from transfuse.config.literals import LearningOptions
from transfuse.config.options import Options
from transfuse.data.load import load_samples
from transfuse.data.sample_budget import SampleBudget
from transfuse.data.samples import Samples
from transfuse.fusion.calibration import sample_budget
from transfuse.network.sizes import active_parameters

IMAGES = load_samples(Dataset.from_dict({"image": [Image.new("RGB", (8, 8))] * 2}))
TEXTS = load_samples(Dataset.from_dict({"text": ["one", "two"]}))


@pytest.fixture(autouse=True)
def default(monkeypatch: pytest.MonkeyPatch) -> None:
    """Learn weights by default, as users do; other tests do not."""
    monkeypatch.setattr(options, "AUTO_MERGE", "learned")


def vit(side: int | tuple[int, int], width: int = 64, blocks: int = 2, patch: int = 8) -> ViTForImageClassification:
    config = ViTConfig(
        image_size=side, patch_size=patch, hidden_size=width, num_hidden_layers=blocks, num_attention_heads=4,
        intermediate_size=4 * width,
    )  # fmt: skip
    with torch.device("meta"):
        return ViTForImageClassification(config)


def drawn(data: Samples, model: PreTrainedModel, **given: Any) -> int:
    return sample_budget(Options(device="cpu", **given)).drawn(data, model, model)


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
    assert drawn(IMAGES, vit(side), **given) == expected


def test_a_large_model_reads_fewer_in_its_time() -> None:
    large = vit(32, width=384, blocks=7)
    five, thirty = (drawn(IMAGES, large, minutes=minutes) for minutes in (5, 30))
    assert (five, thirty) == (3207, 10_000)
    wide = vit(32, width=768, blocks=12)
    given = ({}, {"effort": "quick"}, {"steps": 3}, {"samples": 400}, {"merge": "least-squares"})
    assert [drawn(IMAGES, wide, **each) for each in given] == [470, 188, 2000, 400, 2000]
    assert drawn(IMAGES, vit(224, width=768, blocks=12)) == 100


def test_the_page_gives_the_number_of_images_that_is_drawn() -> None:
    page = (Path(__file__).parents[2] / "docs" / "choosing.md").read_text()
    said = re.search(r"a ViT of 12 million parameters gets about\s+(\d+) images of 32 x 32 pixels", page)
    assert said
    assert drawn(IMAGES, vit(32, width=384, blocks=7, patch=4)) == pytest.approx(int(said[1]), abs=5)


def test_a_large_model_keeps_fewer_texts() -> None:
    wide = vit(32, width=768, blocks=12)  # of 85 million parameters
    given = ({}, {"effort": "quick"}, {"effort": "high"}, {"samples": 400})
    counts = [sample_budget(Options(device="cpu", **each)).kept(500, 128, wide) for each in given]
    assert counts == [137, 100, 500, 500]
    assert sample_budget(Options(device="cpu")).kept(500, 32, vit(32)) == 500


def test_no_more_texts_are_drawn() -> None:
    assert drawn(TEXTS, vit(32)) == 2000
    config = GPT2Config(n_embd=8, n_layer=1, n_head=1, vocab_size=9)
    assert drawn(IMAGES, GPT2LMHeadModel(config)) == 2000
    assert drawn(IMAGES, vit((16, 48))) == 10_000


def test_only_experts_that_a_token_chooses_count() -> None:
    """A mixture of experts reads as many texts as a dense model of its active parameters."""
    sizes = {"hidden_size": 64, "intermediate_size": 2048, "num_attention_heads": 4, "num_key_value_heads": 4}
    config = OlmoeConfig(vocab_size=9, num_hidden_layers=2, num_experts=16, num_experts_per_tok=2, **sizes)
    with torch.device("meta"):
        mixture = OlmoeForCausalLM(config)
    expert = 3 * 64 * 2048
    assert active_parameters(mixture) == mixture.num_parameters() - 2 * 14 * expert


def test_images_of_one_teacher_take_less() -> None:
    wide = vit(32, width=768, blocks=12)
    budget = SampleBudget(2000, LearningOptions(), torch.device("cpu"), weighs_images=False)
    assert budget.drawn(IMAGES, wide, wide) == int(470 * 22 / 10 + 1)
