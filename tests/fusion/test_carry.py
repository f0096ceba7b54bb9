"""A fine-tune is carried to another base, exactly where the new base is a symmetric copy of the base."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cases import BERT, CASES, VIT, Case
from languages import gpt2
from PIL import Image
from symmetric_copies import moved
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    PreTrainedModel,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessorPil,
)

import transfuse
from transfuse.errors import CheckpointError, ConfigError
from transfuse.fusion.carrying.requirements import carry_options
from transfuse.fusion.sizes.anchor_sizes import with_anchor_sizes
from transfuse.network.inputs import example_inputs
from transfuse.network.sizes import sizes_of


def tuned_copy(model: PreTrainedModel, size: float = 0.03, seed: int = 5) -> PreTrainedModel:
    """A model whose every tensor moved a little, as after fine-tuning."""
    generator = torch.Generator().manual_seed(seed)
    twin = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in twin.parameters():
            noise = torch.randn(parameter.shape, generator=generator).to(parameter)
            parameter.add_(size * noise * parameter.square().mean().sqrt())
    return twin.eval()


@pytest.mark.parametrize(("has_data", "match_on"), [(True, "both"), (False, "weights")])
def test_what_units_are_matched_on_by_default(has_data: bool, match_on: str) -> None:
    assert carry_options({}, has_data, False).match_on == match_on
    assert carry_options({"match_on": "auto"}, has_data, False).match_on == match_on


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_to_a_symmetric_copy_it_is_exact(case: Case) -> None:
    base = case.build()
    tuned = tuned_copy(base)
    new_base = moved(base)
    carried = transfuse.carry(base, tuned, new_base).model
    expected, before = case.logits(tuned), case.logits(base)
    change = (expected - before).abs().max()
    assert (case.logits(carried) - expected).abs().max() < 1e-3 * change + 1e-5 * expected.abs().max()


@pytest.mark.parametrize("name", ["GPT2LMHeadModel", "LlamaForCausalLM", "Qwen3ForCausalLM", "BertForMaskedLM"])
def test_the_result_differs_from_the_new_base_in_what_was_tuned(name: str) -> None:
    """By a change of the same rank, since it keeps the gains and scales of the new base."""
    case = next(each for each in CASES if each.name == name)
    base, new_base = case.build(1), case.build(2)
    tuned = copy.deepcopy(base)
    layers = [each for each, values in base.named_parameters() if values.ndim == 2 and ".1." in each]
    with torch.no_grad():
        for layer in layers:
            values = tuned.get_parameter(layer)
            values.add_(0.1 * torch.randn(len(values), 1).to(values) @ torch.randn(1, values.shape[1]).to(values))
    carried = transfuse.carry(base, tuned, new_base).model.double()
    for each, values in new_base.named_parameters():
        if each.endswith("bias"):  # what the tuned matrices make of the biases of norms
            continue
        change = carried.get_parameter(each) - values
        singular = torch.linalg.svdvals(change.reshape(len(values), -1))
        rank = int((singular > 1e-5 * values.abs().max()).sum())
        fused = 3 if name.startswith("GPT2") and "c_attn" in each else 1  # queries, keys and values
        assert rank in ((1, fused) if each in layers else (0,)), (each, singular)


def bert(architecture: type[PreTrainedModel], seed: int, **sizes: int) -> PreTrainedModel:
    torch.manual_seed(seed)
    model = architecture(BertConfig(**{**BERT, "initializer_range": 0.2, **sizes})).eval()  # type: ignore[call-arg]
    return model


def with_trunk(model: PreTrainedModel, trunk: PreTrainedModel) -> PreTrainedModel:
    """A model with the trunk of another, slightly changed, below its own head."""
    model.base_model.load_state_dict(tuned_copy(trunk).base_model.state_dict(), strict=False)
    return model


def test_a_new_head_is_carried_too() -> None:
    base = bert(BertForMaskedLM, 1)
    tuned = with_trunk(bert(BertForSequenceClassification, 2, num_labels=3), base)
    fusion = transfuse.carry(base, tuned, moved(base))
    carried = fusion.model
    assert type(carried) is BertForSequenceClassification
    assert repr(fusion).startswith("Fusion of 3 BertForSequenceClassification: ")
    batch = example_inputs(tuned.config)
    expected = tuned(**batch).logits.detach()
    assert torch.allclose(carried(**batch).logits, expected, atol=1e-3 * float(expected.abs().max()))


def images(seed: int, count: int = 60) -> list[Image.Image]:
    generator = np.random.default_rng(seed)
    return [Image.fromarray(generator.integers(0, 256, (8, 8, 3)).astype(np.uint8)) for _ in range(count)]


def vit(seed: int, **sizes: int) -> ViTForImageClassification:
    torch.manual_seed(seed)
    config = ViTConfig(**{**VIT, "num_channels": 3, "image_size": 8, "initializer_range": 0.2, **sizes})
    return ViTForImageClassification(config).eval()


def distance(model: PreTrainedModel, other: PreTrainedModel, samples: list[Image.Image]) -> float:
    """How far the logits of a model are from those of another, relative to the latter's variance."""
    pixels = PROCESSOR(samples, return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        found, expected = (each(pixel_values=pixels).logits for each in (model, other))
    return float((found - expected).square().sum() / (expected - expected.mean(0)).square().sum())


PROCESSOR = ViTImageProcessorPil(size={"height": 8, "width": 8})


def test_samples_bring_it_nearer_to_the_tuned_model_and_to_what_is_kept() -> None:
    base, new_base = vit(1), vit(2)
    tuned = tuned_copy(base, 0.2)
    task, old, unseen = images(1), images(2), images(3)
    by_weights = transfuse.carry(base, tuned, new_base).model
    fitted = transfuse.carry(base, tuned, new_base, task, processor=PROCESSOR, samples=60, effort="quick").model
    keeping = transfuse.carry(base, tuned, new_base, task, old, processor=PROCESSOR, samples=60, effort="quick")
    assert distance(fitted, tuned, unseen) < 0.9 * distance(by_weights, tuned, unseen)
    assert distance(keeping.model, new_base, old) < 0.9 * distance(fitted, new_base, old)
    assert (keeping.record["calibration_samples"], keeping.record["kept_samples"]) == (60, 60)
    assert [model["weight"] for model in keeping.record["models"]] == [1.0, -1.0, 1.0]


def test_training_follows_the_fit() -> None:
    base, new_base = vit(1), vit(2)
    task, old = images(1), images(2)
    given = {"data": task, "keep": old, "processor": PROCESSOR, "samples": 60}
    fusion = transfuse.carry(base, tuned_copy(base, 0.2), new_base, steps=25, **given)
    assert fusion.record["merge"] == "learned"
    learned = fusion.record["learned_weights"]
    assert learned["steps"] == 25
    assert set(learned["starts"]) == {"fitted layers", "new base"}
    assert learned["start"] in learned["starts"]
    assert min(learned["excess"]) < 0.98 * learned["excess"][0]
    assert fusion.record["options"]["steps"] == 25
    above = "nats above the tuned model, plus 0.3 times that above the new base on samples to keep, on held-out"
    assert above in repr(fusion)


def test_training_with_a_new_head() -> None:
    base, new_base = vit(1), vit(2)
    tuned = with_trunk(vit(3, num_labels=3), base)
    given = {"data": images(1), "keep": images(2), "processor": PROCESSOR, "samples": 60, "steps": 2}
    carried = transfuse.carry(base, tuned, new_base, **given)
    assert carried.model.config.num_labels == 3
    assert "nats above the tuned model on held-out samples" in repr(carried)
    assert carried.record["learned_weights"]["steps"] == 2


@pytest.mark.parametrize("sizes", [{"hidden_size": 36, "intermediate_size": 40}, {"num_hidden_layers": 5}])
@pytest.mark.parametrize("labels", [None, 3])
def test_to_a_larger_symmetric_copy_it_is_exact(labels: int | None, sizes: dict[str, int], tmp_path: Path) -> None:
    base = vit(1)
    tuned = tuned_copy(base, 0.1) if labels is None else with_trunk(vit(3, num_labels=labels), base)
    larger = vit(1, **sizes)
    new_base = moved(with_anchor_sizes([larger, base], ["", ""])[1])
    fusion = transfuse.carry(base, tuned, new_base)
    assert sizes_of(fusion.model.config) == sizes_of(larger.config)
    assert distance(fusion.model, tuned, images(3)) < 1e-4
    fusion.save(tmp_path / "out")
    assert "got the sizes of the new base without a change" in (tmp_path / "out" / "README.md").read_text()
    quick = transfuse.carry(base, tuned, new_base, images(1), processor=PROCESSOR, samples=60, effort="quick")
    assert distance(quick.model, tuned, images(3)) < 1e-3


def test_blocks_that_only_the_new_base_has_stay_as_they_are() -> None:
    base, new_base = vit(1), vit(2, num_hidden_layers=5)
    fusion = transfuse.carry(base, tuned_copy(base, 0.2), new_base)
    assert "its blocks take the places 0, 2 (from 0)" in fusion.record["resized"][0]
    before = new_base.state_dict()
    changed = {
        name.split(".")[2]
        for name, values in fusion.model.state_dict().items()
        if name.startswith("vit.layers.") and not torch.allclose(values, before[name], atol=1e-5)
    }
    assert changed == {"0", "2"}


@pytest.mark.parametrize(
    ("name", "sizes"),
    [("T5ForConditionalGeneration", {"d_model": 48}), ("MixtralForCausalLM", {"num_local_experts": 6})],
)
def test_models_whose_sizes_cannot_change_teach_a_new_base(name: str, sizes: dict[str, int]) -> None:
    case = next(each for each in CASES if each.name == name)
    base, new_base = case.build(1), case.architecture(case.configure(**sizes))
    with pytest.raises(ConfigError, match="so the new base learns from samples; give --data"):
        transfuse.carry(base, tuned_copy(base), new_base)


def test_why_a_base_cannot_be_widened_is_said() -> None:
    base, new_base = bert(BertForMaskedLM, 1), bert(BertForMaskedLM, 2, hidden_size=36)
    message = r"has a width of 24, the new base model has 36.* would have to be a multiple.*, so the new base learns"
    with pytest.raises(ConfigError, match=message):
        transfuse.carry(base, tuned_copy(base), new_base)


def test_a_narrower_new_base_is_taught(tmp_path: Path) -> None:
    base, new_base = vit(1, hidden_size=36, intermediate_size=40), vit(2)
    tuned = tuned_copy(base, 0.2)
    task, old = images(1), images(2)
    carried = transfuse.carry(base, tuned, new_base, task, old, processor=PROCESSOR, samples=60, steps=25)
    assert carried.model.config.hidden_size == new_base.config.hidden_size
    assert carried.record["learned_weights"]["start"] == "new base"
    unseen = images(3)
    assert distance(carried.model, tuned, unseen) < 0.9 * distance(new_base, tuned, unseen)
    carried.save(tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    assert "nothing was aligned" in card
    assert "align=" not in card  # which `carry` would refuse


def test_too_little_memory_is_said_before_anything_is_computed() -> None:
    base = vit(1)
    with pytest.raises(ConfigError, match="takes at least"):
        transfuse.carry(base, tuned_copy(base), vit(2), images(1), processor=PROCESSOR, max_memory="100MB")


@pytest.fixture(scope="module")
def given() -> dict[str, Any]:
    """Return what is put together in ways that cannot be carried."""
    base, wide = vit(1), vit(2, hidden_size=36)
    tuned = tuned_copy(base)
    wide_head = with_trunk(vit(3, hidden_size=36, num_labels=3), wide)
    return {
        "wide tuned": tuned_copy(wide), "wide head": wide_head, "base": base,
        "base again": vit(1), "other": vit(2), "stranger": vit(3), "wide": wide, "gpt2": gpt2(9),
        "shallow": vit(2, num_hidden_layers=1), "deep": vit(2, num_hidden_layers=3), "tuned": tuned,
        "tuned again": copy.deepcopy(tuned), "other head": with_trunk(vit(3, num_labels=3), base),
        "images": images(1), "nothing": None,
    }  # fmt: skip


NO_SUCH_OPTION = "carrying takes no such option; leave it out"
SAME_AS_NEW = r"the tuned model: has the weights of the new base model, .* another new base"
WIDTHS_DIFFER = r"hidden_size is .*, that of the tuned model is 36; a fine-tune has the shape"


@pytest.mark.parametrize(
    ("names", "options", "message"),
    [
        ("base, stranger, other", {}, "was not fine-tuned from"),
        ("base, tuned, other, nothing, images", {}, "keep"),
        ("base, tuned, other", {"steps": 3}, "steps: only layers"),
        ("base, tuned, other, images", {"weights": (1, 2, 3)}, f"weights: {NO_SUCH_OPTION}"),
        ("base, tuned, other, images", {"basis": "common"}, f"basis: {NO_SUCH_OPTION}"),
        ("base, tuned, other, images", {"grow": 1.5}, f"grow: {NO_SUCH_OPTION}"),
        ("base, tuned, other, images", {"positions": "anchor"}, f"positions: {NO_SUCH_OPTION}"),
        ("wide, wide tuned, base", {}, "has 24.*, so the new base learns from samples"),
        ("base, base again, other", {}, "the tuned model: has the weights of the base model, so there is nothing"),
        ("base, base, other", {}, "the base model: is both the base and the tuned model"),
        ("base, tuned, tuned", {}, "the new base model: is both the new base and the tuned model"),
        ("base, tuned, tuned again", {}, SAME_AS_NEW),
        ("base, gpt2, other", {}, r"the tuned model: its model_type is gpt2, .*; give a fine-tune of the base"),
        ("base, tuned, gpt2", {}, "its model_type is gpt2, that of the base is vit"),
        ("base, tuned, shallow", {}, "has 1 block, the base has 2; give a new base with at least as many blocks"),
        ("base, deep, other", {}, "has 3 blocks, the base has 2; a fine-tune has the shape of its base"),
        ("wide, wide head, base, images", {}, "cannot take the head"),
        ("wide, wide tuned, base, images", {"groups": "permutations"}, "is not aligned; leave --groups"),
        ("wide, wide tuned, base, images", {"effort": "quick"}, "leave --effort quick out"),
        ("base, wide, other", {}, WIDTHS_DIFFER),
    ],
    ids=str,
)
def test_what_cannot_be_carried_is_refused(
    given: dict[str, Any], names: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        transfuse.carry(*(given[name] for name in names.split(", ")), processor=PROCESSOR, **options)


def test_what_is_no_model_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(CheckpointError, match="None: is not a model; give a checkpoint path"):
        transfuse.carry(None, given["tuned"], given["other"])
