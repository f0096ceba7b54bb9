"""The last layer says what the parents say on average, or stays the mean."""

import pytest
import torch
from cases import CASES, Case
from torch.nn.functional import cross_entropy

from transfuse.activations.prefix_cache import PrefixCache
from transfuse.base.batch import IGNORED_LABEL, Batch, batch_size, cast
from transfuse.merging.fitting.fit_data import Split
from transfuse.merging.fitting.head_problem import HeadSamples
from transfuse.merging.fitting.output_head import _thinned, fit_output_head, output_head
from transfuse.network.model import declaration
from transfuse.network.outputs import predict

BY_NAME = {case.name: case for case in CASES}
FITTED = {
    "ViTForImageClassification": "classifier", "BertForMaskedLM": "cls.predictions.transform.LayerNorm",
    "GPT2LMHeadModel": "transformer.ln_f", "LlamaForCausalLM": "lm_head", "Gemma3ForCausalLM": "model.norm",
    "LlamaForCausalLM-attention_bias-mlp_bias": "model.norm",
}  # fmt: skip
fitted = pytest.mark.parametrize("name", FITTED)


def batches(case: Case, seeds: range) -> list[dict[str, torch.Tensor]]:
    found = [cast(case.inputs(case.build().config, seed), torch.float64) for seed in seeds]
    return [batch | {"labels": batch["input_ids"]} if "input_ids" in batch else batch for batch in found]


def alone(batch: Batch) -> torch.Tensor:
    """The shares of one parent in the samples of a batch."""
    return torch.ones(1, batch_size(batch))


def fit(name: str, spoil: float):
    """A model whose parents are itself and another as it was before its last layer was spoilt."""
    case = BY_NAME[name]
    fused, parent = case.build(1), case.build(1)
    found = output_head(declaration(fused), fused)
    with torch.no_grad():
        for values in fused.get_submodule(found.name).parameters():
            values.add_(spoil * (1 + values.std(correction=0)) * torch.randn_like(values))
    spoilt = {key: values.clone() for key, values in fused.state_dict().items()}
    halves = [batches(case, seeds) for seeds in (range(60), range(60, 80))]
    models = [PrefixCache(model, [*halves[0], *halves[1]], []) for model in (fused, parent)]
    done = fit_output_head(found, models, [Split(half, alone) for half in halves])
    return fused, parent, spoilt, done, found


def distance(model, parent, unseen):
    """Of what they say, in nats."""
    return sum(float(cross_entropy(predict(model, each), predict(parent, each).softmax(-1))) for each in unseen)


@fitted
def test_a_spoilt_last_layer_says_again_what_it_said(name):
    torch.manual_seed(0)
    fused, parent, spoilt, done, found = fit(name, 0.3)
    unseen = batches(BY_NAME[name], range(80, 100))
    best, now = (distance(model, parent, unseen) for model in (parent, fused))
    after = {key: values.clone() for key, values in fused.state_dict().items()}
    fused.load_state_dict(spoilt)
    before = distance(fused, parent, unseen)
    assert found.name == FITTED[name]
    assert now - best < 0.5 * (before - best)
    assert done.gain > 0.5
    changed = {key.rpartition(".")[0] for key in after if not torch.equal(after[key], spoilt[key])}
    assert changed == {found.name} | ({"cls.predictions", "cls.predictions.decoder"} if "Masked" in name else set())


@fitted
def test_a_last_layer_that_is_right_stays(name):
    fused, _, before, done, _ = fit(name, 0.0)
    assert done.ridge is None
    assert all(torch.equal(values, before[key]) for key, values in fused.state_dict().items())


def test_a_model_that_says_no_numbers_keeps_its_last_layer():
    fused, _, before, done, _ = fit("ViTForImageClassification", float("nan"))
    assert (done.ridge, done.gain) == (None, 0.0)
    torch.testing.assert_close(dict(fused.state_dict()), before, equal_nan=True, atol=0, rtol=0)


@pytest.mark.parametrize(
    "name", ["Gemma2ForCausalLM", "CLIPModel", "CLIPVisionModelWithProjection", "DeiTForImageClassificationWithTeacher"]
)
def test_scores_that_no_linear_map_puts_out_have_none(name):
    """They are capped, compared, projections, or the mean of two heads."""
    model = BY_NAME[name].build(1)
    assert output_head(declaration(model), model) is None


def test_several_classes_at_once_are_left_to_least_squares():
    model = BY_NAME["ViTForImageClassification"].build(1)
    model.config.problem_type = "multi_label_classification"
    assert output_head(declaration(model), model) is None


def test_nothing_is_fitted_where_nothing_is_asked():
    case = BY_NAME["BertForMaskedLM"]
    fused, parent = case.build(1), case.build(2)
    silent = [each | {"labels": torch.full_like(each["input_ids"], IGNORED_LABEL)} for each in batches(case, range(4))]
    half = Split(silent, alone)
    models = [PrefixCache(each, silent, []) for each in (fused, parent)]
    done = fit_output_head(output_head(declaration(fused), fused), models, [half] * 2)
    assert done.ridge is None


def test_a_language_model_scores_only_the_answers_that_are_used():
    batch = {"input_ids": torch.arange(12).reshape(2, 6), "labels": torch.arange(12).reshape(2, 6)}
    batch["labels"][0, :3] = IGNORED_LABEL
    thinned, rows = _thinned(batch, 4, 1)
    assert rows == slice(None)
    assert thinned["labels"][thinned["labels"] != IGNORED_LABEL].tolist() == [4, 8]
    assert _thinned({"pixel_values": torch.zeros(9, 3)}, 4, 1)[1] == slice(1, None, 4)


def test_slices_of_the_samples_make_up_all_of_them():
    samples = HeadSamples(torch.randn(700, 3), torch.rand(700, 1000), torch.arange(700))
    inputs, targets = (torch.cat(parts) for parts in zip(*samples.slices(), strict=True))
    assert len(list(samples.slices())) > 1
    assert torch.equal(inputs, samples.inputs)
    assert torch.equal(targets, samples.targets)
