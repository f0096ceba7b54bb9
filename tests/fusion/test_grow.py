"""A fusion that grows has the units of both parents side by side, and is one ordinary checkpoint."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from cases import CASES, Case
from comparisons import close
from languages import TEXTS, gpt2, llama, saved
from transformers import AutoConfig, AutoModelForCausalLM, LlamaModel, PreTrainedModel

import transfuse
from transfuse.alignment.interface import AlignContext, aligned_weights
from transfuse.base.batch import cast
from transfuse.config.make import make
from transfuse.config.options import Options
from transfuse.errors import ConfigError, TransfuseError
from transfuse.fusion.align import align
from transfuse.fusion.grow import growth, growth_plan, shortfall
from transfuse.merging.methods import MERGE_FUNCTIONS
from transfuse.merging.request import MergeRequest
from transfuse.merging.training.starts import PREDICTIONS_ONLY
from transfuse.network.model import network
from transfuse.network.sizes import sizes_of

CPU = torch.device("cpu")
FAMILIES = (
    "ViTForImageClassification",
    "BertForMaskedLM",
    "GPT2LMHeadModel-tie_word_embeddings",
    "LlamaForCausalLM",
    "Qwen2ForCausalLM",
    "Qwen3ForCausalLM",
    "Gemma2ForCausalLM",
    "GPTNeoXForCausalLM",
)
by_name = {case.name: case for case in CASES}
HEADLESS = replace(by_name["LlamaForCausalLM"], name="LlamaModel", architecture=LlamaModel)


def grown(case: Case, models: Sequence[PreTrainedModel], ratio: float, method: str = "exact") -> PreTrainedModel:
    """The fusion in closed form."""
    networks = [network(model, CPU) for model in models]
    weights = [1 / len(models)] * len(models)
    alignments, _ = align(networks, weights, AlignContext("weights"), make(Options, {"align": method}))
    batches = [cast(case.inputs(case.configure(), seed), torch.float64) for seed in range(40)]
    shapes = growth(networks[0].model, growth_plan([network.model for network in networks], ratio))
    request = MergeRequest(
        anchor=networks[0], parents=aligned_weights(alignments), weights=weights, batches=batches, growth=shapes
    )
    merged = MERGE_FUNCTIONS["least-squares"](request)
    assert isinstance(merged, PreTrainedModel)
    return merged


@pytest.mark.parametrize("ratio", [1.15, 2.0])
@pytest.mark.parametrize("name", FAMILIES)
def test_growing_with_a_copy_keeps_the_function(name: str, ratio: float) -> None:
    case = by_name[name]
    model = case.build(1)
    result = grown(case, [model, case.build(1)], ratio)
    assert 1.05 * model.num_parameters() < result.num_parameters() <= ratio * model.num_parameters()
    assert close(case.logits(result), case.logits(model), 1e-4 if ratio < 2 else 1e-9)


def halves(model: PreTrainedModel, case: Case, units: int) -> list[PreTrainedModel]:
    """Two models with half of the hidden units each, which write twice as much: their mean is the model."""
    parts = []
    for half in range(2):
        chosen = slice(half * units, (half + 1) * units)
        part = case.build(2, num_hidden_layers=1, intermediate_size=units)
        tensors = dict(model.state_dict())
        for name, values in tensors.items():
            if "gate_proj" in name or "up_proj" in name:
                tensors[name] = values[chosen]
            elif "down_proj" in name:
                tensors[name] = 2 * values[:, chosen]
        part.load_state_dict(tensors)
        parts.append(part)
    return parts


def test_two_halves_are_the_whole_again() -> None:
    """The streams of both agree up to the last branch, whose outputs add up to the model's."""
    case = HEADLESS
    model = case.build(1, num_hidden_layers=1, intermediate_size=48)
    parts = halves(model, case, 24)
    assert not close(case.logits(parts[0]), case.logits(model), 1e-2)
    result = grown(case, parts, 2.0, "none")
    assert sizes_of(result.config).intermediate_size == 48
    assert close(case.logits(result), case.logits(model), 1e-9)


def test_units_without_use_are_left_out() -> None:
    """Half of each parent's hidden units write nothing, and those that write are found."""
    case = HEADLESS
    model = case.build(1, num_hidden_layers=1, intermediate_size=48)
    parts = halves(model, case, 24)
    wide = [case.build(3, num_hidden_layers=1, intermediate_size=40) for _ in parts]
    for part, idle in zip(parts, wide, strict=True):
        tensors = dict(part.state_dict())
        for name, values in idle.state_dict().items():
            if "mlp" in name:
                padded = 0 * values if "down_proj" in name else values.clone()
                (padded[:, :24] if "down_proj" in name else padded[:24]).copy_(tensors[name])
                tensors[name] = padded
        idle.load_state_dict(tensors)
    result = grown(case, wide, 1.3, "none")
    assert 48 <= (sizes_of(result.config).intermediate_size or 0) < 80
    assert close(case.logits(result), case.logits(model), 1e-4)


@pytest.mark.parametrize("build", [llama, gpt2], ids=["llama", "gpt2"])
def test_the_result_is_an_ordinary_checkpoint(tmp_path: Path, build) -> None:
    models = [saved(tmp_path / f"model {seed}", build, seed) for seed in (1, 2)]
    fusion = transfuse.fuse(models, TEXTS, grow=1.3, merge="learned", steps=3)
    assert fusion.model.generation_config.max_new_tokens == 7
    out = fusion.save(tmp_path / "out")
    record = json.loads((out / "transfuse.json").read_text())
    config, own = (sizes_of(AutoConfig.from_pretrained(folder)) for folder in (out, models[0]))
    assert record["growth"]["sizes"]["grown"]["intermediate_size"] == config.intermediate_size
    assert (config.intermediate_size or 0) > (own.intermediate_size or 0)
    assert config.hidden_size == own.hidden_size
    loaded = AutoModelForCausalLM.from_pretrained(out)
    counts = record["growth"]["parameters"]
    assert counts["anchor"] < loaded.num_parameters() == counts["grown"] <= 1.3 * counts["anchor"]
    starts = {name.removesuffix(PREDICTIONS_ONLY) for name in record["learned_weights"]["starts"]}
    assert starts == {"fitted layers", "model 1", "model 2"}
    assert "times the parameters of the first" in (out / "README.md").read_text()
    assert "grow=1.3" in (out / "README.md").read_text()
    again = transfuse.fuse(models, TEXTS, grow=1.3, merge="learned", steps=3)
    for name, values in again.model.state_dict().items():
        torch.testing.assert_close(values, loaded.state_dict()[name], msg=name)


def test_three_parents_can_grow() -> None:
    case = by_name["BertForMaskedLM"]
    models = [case.build(1) for _ in range(3)]
    result = grown(case, models, 1.9)
    assert 74 < (sizes_of(result.config).intermediate_size or 0) <= 111
    assert close(case.logits(result), case.logits(models[0]), 1e-4)


def test_no_more_than_all_units_are_added() -> None:
    model = by_name["BertForMaskedLM"].build(1)
    plan = growth_plan([model] * 2, 2.0)
    assert plan.grown == plan.wide
    assert plan.ratio < 1.9
    assert f"{plan.ratio:.2f} times" in (shortfall(plan, 2.0) or "")
    assert shortfall(growth_plan([model] * 2, 1.2), 1.2) is None


def test_units_that_the_ratio_leaves_no_room_for_are_no_shortfall() -> None:
    """All hidden units of both fit, and then not one more group of heads."""
    sizes = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "intermediate_size": 16}
    plan = growth_plan([by_name["LlamaForCausalLM"].build(1, **sizes)] * 2, 1.35)
    assert plan.ratio < 1.3
    assert shortfall(plan, 1.35) is None


def test_a_narrow_parent_adds_its_own_units_only() -> None:
    case = by_name["BertForMaskedLM"]
    anchor, narrow = case.build(1), case.build(2, intermediate_size=8)
    plan = growth_plan([anchor, narrow], 2.0)
    assert plan.grown.intermediate_size == anchor.config.intermediate_size + 8
    assert f"{plan.ratio:.2f} times" in (shortfall(plan, 2.0) or "")


@pytest.mark.parametrize(
    ("name", "ratio", "words"),
    [
        ("AlbertForMaskedLM", 1.5, "cannot have more hidden units or heads"),
        ("T5ForConditionalGeneration", 1.5, "two stacks of blocks"),
        ("LlamaForCausalLM", 1.0001, "leave no room"),
    ],
)
def test_impossible_sizes_are_refused(name: str, ratio: float, words: str) -> None:
    with pytest.raises(TransfuseError, match=words):
        growth_plan([by_name[name].build(1)] * 2, ratio)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"grow": 1.0}, "greater than 1"),
        ({"grow": 2.5}, "less than or equal to 2"),
        ({"grow": 1.5, "merge": "mean"}, "only merge least-squares and learned take it, not mean"),
        ({"grow": 1.5, "adapter_out": 4}, "an adapter has the shape of the anchor"),
        ({"grow": 1.5, "stream": True}, "changes sizes"),
    ],
)
def test_options_that_contradict_growth_are_refused(tmp_path: Path, options: dict[str, object], words: str) -> None:
    models = [saved(tmp_path / f"model {seed}", gpt2, seed) for seed in (1, 2)]
    with pytest.raises(ConfigError, match=words):
        transfuse.fuse(models, TEXTS, **options)


def test_growth_needs_samples(tmp_path: Path) -> None:
    models = [saved(tmp_path / f"model {seed}", gpt2, seed) for seed in (1, 2)]
    with pytest.raises(ConfigError, match="give data"):
        transfuse.fuse(models, grow=1.5)
