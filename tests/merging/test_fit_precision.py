"""Layers are fitted to activations of bfloat16 where that saves time and costs nothing."""

import pytest
import torch
from cases import CASES

from transfuse.base.batch import cast
from transfuse.merging.fitting import least_squares as fitting
from transfuse.merging.fitting.fit_precision import suits_mixed_precision
from transfuse.merging.fitting.layer_groups import stages
from transfuse.merging.fitting.least_squares import least_squares
from transfuse.network import precision
from transfuse.network.model import declaration
from transfuse.network.outputs import model_output

QUICK = (
    *("ViTForImageClassification", "BertForMaskedLM", "GPT2LMHeadModel", "LlamaForCausalLM", "CLIPModel"),
    *("T5ForConditionalGeneration", "Qwen3MoeForCausalLM", "DebertaV2ForMaskedLM"),
)  # families that are tested every time
families = pytest.mark.parametrize(
    "case",
    [pytest.param(case, marks=() if case.name in QUICK else pytest.mark.slow, id=case.name) for case in CASES],
)
VIT = next(case for case in CASES if case.name == "ViTForImageClassification")


def batches(case, count=40):
    return [cast(case.inputs(case.build().config, seed), torch.float32) for seed in range(count)]


def wide(seed):
    return VIT.build(seed, intermediate_size=512).float()


def test_wide_models_that_differ_are_fitted_in_mixed_precision():
    models = [wide(seed) for seed in (1, 2)]
    todo = stages(declaration(models[0]), models[0])
    assert suits_mixed_precision(models[0], [models[1]], todo, batches(VIT, 1))


def test_a_mean_that_is_right_is_not_rounded():
    """One of the parents is the mean itself, as after an exact alignment of a copy."""
    models = [wide(seed) for seed in (1, 1, 2)]
    todo = stages(declaration(models[0]), models[0])
    assert not suits_mixed_precision(models[0], models[1:], todo, batches(VIT, 1))


def test_narrow_models_are_not():
    models = [VIT.build(seed).float() for seed in (1, 2)]
    todo = stages(declaration(models[0]), models[0])
    assert not suits_mixed_precision(models[0], [models[1]], todo, batches(VIT, 1))


@families
def test_a_layer_is_fitted_in_mixed_precision_in_every_family(case, monkeypatch):
    """Also on processors that are slow in bfloat16: every module has to accept what those before it give."""
    if case.name.startswith("Albert"):
        pytest.skip("its layers run several times, and are averaged instead of fitted")
    monkeypatch.setattr(precision, "cpu_multiplies_bfloat16", lambda: True)
    monkeypatch.setattr(fitting, "suits_mixed_precision", lambda *_: True)
    whole, broken = case.build(1).float(), case.build(1).float()
    seen = case.inputs(whole.config, 99)
    before = model_output(whole, cast(seen, torch.float32))
    first = next(stage for stage in stages(declaration(broken), broken) if stage.linears[0].part == "attention")
    with torch.no_grad():
        for linear in first.linears:
            weight = broken.get_submodule(linear.name).weight
            weight.add_(weight.std() * torch.randn_like(weight))
    far = (model_output(broken, cast(seen, torch.float32)) - before).abs().max()
    fits = least_squares(declaration(broken), broken, [whole], [1.0], batches(case))
    assert fits[first.linears[0].name].gain > 0.98
    assert (model_output(broken, cast(seen, torch.float32)) - before).abs().max() < 0.2 * far
    assert {values.dtype for values in broken.state_dict().values() if values.is_floating_point()} == {torch.float32}
