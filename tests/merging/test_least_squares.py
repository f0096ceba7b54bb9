"""Layers fitted to what parents compute: nothing to gain where the mean is right, and much where it is not."""

import pytest
import torch
from cases import CASES, Case

from transfuse.activations import token_importance
from transfuse.alignment.exact.groups import random_alignment
from transfuse.alignment.interface import AlignContext
from transfuse.alignment.methods import ALIGNMENT_METHODS
from transfuse.alignment.transform import transform_all
from transfuse.base.batch import cast
from transfuse.errors import ConfigError
from transfuse.fusion.fuse import fuse
from transfuse.merging.fitting import reader_rows
from transfuse.merging.fitting.layer_groups import selectable_units, stages
from transfuse.merging.fitting.least_squares import least_squares
from transfuse.merging.mean import mean
from transfuse.network.model import declaration, network, with_tensors
from transfuse.network.symmetry import symmetric

CPU = torch.device("cpu")
families = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def batches(case: Case) -> list[dict[str, torch.Tensor]]:
    return [cast(case.inputs(case.build().config, seed), torch.float64) for seed in range(40)]


@families
def test_a_layer_is_fitted_in_every_family(case):
    """One layer of a model is broken; fitted to the model as it was, it comes back, and so do the answers."""
    if case.name.startswith("Albert"):
        pytest.skip("its layers run several times, and are averaged instead of fitted")
    whole, broken = case.build(1), case.build(1)
    before = case.logits(whole)
    first = next(stage for stage in stages(declaration(broken), broken) if stage.linears[0].part == "attention")
    with torch.no_grad():
        for linear in first.linears:
            weight = broken.get_submodule(linear.name).weight
            weight.add_(weight.std() * torch.randn_like(weight))
    far = (case.logits(broken) - before).abs().max()
    fits = least_squares(declaration(broken), broken, [whole], [1.0], batches(case))
    assert fits[first.linears[0].name].gain > 0.99
    assert (case.logits(broken) - before).abs().max() < 0.1 * far


@families
def test_a_model_with_itself_stays_as_it_is(case):
    model = case.build(1)
    reference = case.logits(model)
    least_squares(declaration(model), model, [case.build(1), case.build(1)], [0.3, 0.7], batches(case))
    torch.testing.assert_close(case.logits(model), reference, atol=1e-5, rtol=1e-5)


def test_so_does_one_whose_units_nearly_repeat_each_other():
    """As in a tiny network that was hardly trained: any of them would do, by what a ridge can tell."""
    case = CASES[0]

    def build():
        model = case.build(1).float()
        for block in model.vit.layers:
            weight, bias = block.mlp.fc1.weight.data, block.mlp.fc1.bias.data
            noise = torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
            weight.copy_(weight[:1] + 1e-2 * noise)
            bias.copy_(bias[:1].expand_as(bias))
        return model

    model, inputs = build(), [cast(batch, torch.float32) for batch in batches(case)]
    before = {name: values.clone() for name, values in model.state_dict().items()}
    least_squares(declaration(model), model, [build(), build()], [0.5, 0.5], inputs)
    for name, values in model.state_dict().items():
        torch.testing.assert_close(values, before[name], atol=1e-5, rtol=1e-4, msg=name)


def test_the_fused_outputs_come_closer_to_the_parents_mean():
    case = CASES[0]
    anchor, source = (network(case.build(seed), CPU) for seed in (1, 2))
    aligned = ALIGNMENT_METHODS["exact"](anchor, source, AlignContext("weights"))
    fused = with_tensors(anchor.model, mean([aligned.anchor, aligned.carried], [0.5, 0.5]))
    parents = [with_tensors(anchor.model, tensors) for tensors in (aligned.anchor, aligned.carried)]
    target = mean([{"": case.logits(parent)} for parent in parents], [0.5, 0.5])[""]
    before = (case.logits(fused) - target).square().mean()
    fits = least_squares(declaration(fused), fused, parents, [0.5, 0.5], batches(case))
    assert (case.logits(fused) - target).square().mean() < 0.5 * before
    assert all(fit.gain >= 0 for fit in fits.values())


def test_tied_matrices_pixels_and_experts_are_left_as_they_are():
    by_name = {case.name: case for case in CASES}
    model = by_name["GPT2LMHeadModel"].build()
    names = {linear.name for stage in stages(declaration(model), model) for linear in stage.linears}
    assert "lm_head" not in names
    assert "transformer.h.0.attn.c_attn" in names
    for case, absent in (("MixtralForCausalLM", "experts"), ("ViTForImageClassification", "projection")):
        model = by_name[case].build()
        assert not any(absent in linear.name for stage in stages(declaration(model), model) for linear in stage.linears)


def test_a_parallel_branch_is_added_to_the_sum_of_all_before_it():
    """In GPT-NeoX nothing reads the stream between the branches: it shows as the sum of its parts."""
    model = next(case for case in CASES if case.name == "GPTNeoXForCausalLM").build()
    stage = next(
        stage for stage in stages(declaration(model), model) if stage.linears[0].name.endswith("0.mlp.dense_4h_to_h")
    )
    assert [probe.name for probe in stage.stream] == [
        "gpt_neox.layers.0.input_layernorm", "gpt_neox.layers.0.attention.dense",
    ]  # fmt: skip


def test_a_drift_is_corrected_by_a_branch_that_a_factor_scales():
    """Granite adds 0.3 of each branch: a stream that is off by c is put right by an output that changes by -c / 0.3."""
    case = next(case for case in CASES if case.name == "GraniteForCausalLM")
    whole, broken = (case.build(1, attention_bias=True) for _ in range(2))
    factors = {stage.linears[0].name: stage.factor for stage in stages(declaration(broken), broken)}
    assert factors["model.layers.0.self_attn.o_proj"] == factors["model.layers.0.mlp.down_proj"] == 0.3
    with torch.no_grad():
        broken.model.embed_tokens.weight.add_(0.5)
    least_squares(declaration(broken), broken, [whole], [1.0], batches(case))
    seen = []
    for model in (whole, broken):
        norm = model.model.layers[0].post_attention_layernorm
        handle = norm.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].mean((0, 1))))
        case.logits(model)
        handle.remove()
    drift = 0.5 * broken.config.embedding_multiplier
    assert float((seen[1] - seen[0]).abs().mean()) < 0.2 * drift


def test_refused_without_samples():
    with pytest.raises(ConfigError, match="needs samples; give data"):
        fuse([CASES[0].build(seed).float() for seed in (1, 2)], merge="least-squares")


def chosen(name):
    model = next(case for case in CASES if case.name == name).build()
    todo = stages(declaration(model), model)
    found = [selectable_units(declaration(model), stage, todo[place + 1 :]) for place, stage in enumerate(todo)]
    return {each.reader.name.split(".", 3)[-1] for each in found if each}


@pytest.mark.parametrize(
    ("name", "readers"),
    [
        ("ViTForImageClassification", ["o_proj", "fc2"]), ("GPT2LMHeadModel", ["c_proj"]),
        ("LlamaForCausalLM", ["o_proj", "down_proj"]), ("MixtralForCausalLM", ["o_proj"]),
        ("T5ForConditionalGeneration", ["wo"]),  # its heads share a bias with other layers
    ],
)  # fmt: skip
def test_units_that_stand_for_themselves_can_be_chosen(name, readers):
    assert {reader.rpartition(".")[2] for reader in chosen(name)} == set(readers)


@pytest.mark.parametrize("name", ["ViTForImageClassification", "GPT2LMHeadModel", "LlamaForCausalLM"])
@pytest.mark.parametrize("rows", [reader_rows.ROWS_PER_CANDIDATE, 0.5])
def test_of_two_copies_that_are_not_aligned_units_are_taken_instead_of_means(monkeypatch, name, rows):
    """Hidden units and heads of one model, in another order: their means are nothing, either's own are the model. Few
    of many rows tell, too."""
    monkeypatch.setattr(reader_rows, "ROWS_PER_CANDIDATE", rows)
    monkeypatch.setattr(reader_rows, "MAX_PRODUCTS", 0)
    case = next(case for case in CASES if case.name == name)
    model = network(case.build(1), CPU)
    spec = symmetric(model.spec)
    maps = {name: found for name, found in random_alignment(spec, 3).items() if not name.startswith("stream")}
    other = with_tensors(model.model, transform_all(spec, model.tensors, maps))
    parents = [model.model, other]
    fused = with_tensors(model.model, mean([model.tensors, network(other, CPU).tensors], [0.5, 0.5]))
    reference = case.logits(case.build(1))
    before = (case.logits(fused) - reference).abs().max()
    fits = least_squares(declaration(fused), fused, parents, [0.5, 0.5], batches(case))
    assert (case.logits(fused) - reference).abs().max() < 0.2 * before
    assert any(fit.units and fit.units[0] < sum(fit.units) / 2 for fit in fits.values())


def test_later_texts_may_be_longer_than_those_that_tokens_were_weighed_on(monkeypatch):
    monkeypatch.setattr(token_importance, "MAX_SAMPLES", 2)
    case = next(case for case in CASES if case.name == "BertForSequenceClassification")
    models = [case.build(seed) for seed in (1, 2)]
    words = [cast(case.inputs(models[0].config, seed), torch.float64) for seed in range(12)]
    short = [{name: values[:, :5] for name, values in batch.items()} for batch in words[:6]]
    fused = case.build(1)
    fits = least_squares(declaration(fused), fused, models, [0.5, 0.5], [*short, *words])
    assert any(fit.gain > 0 for fit in fits.values())


def test_a_decoder_whose_padding_is_dropped_stays_as_it_is():
    """Its layers have rows for its own tokens, and those that read the encoder for the encoder's."""
    case = next(case for case in CASES if case.name == "T5ForConditionalGeneration")
    model = case.build(1)
    reference = case.logits(model)
    masks = {"attention_mask": torch.ones(2, 7).long(), "decoder_attention_mask": torch.ones(2, 4).long()}
    masks["attention_mask"][0, 5:] = 0
    masks["decoder_attention_mask"][1, 2:] = 0
    given = []
    for seed in range(40):
        generator = torch.Generator().manual_seed(seed)
        source, target = (torch.randint(2, 31, masks[name].shape, generator=generator) for name in masks)
        labels = target.masked_fill(masks["decoder_attention_mask"] == 0, -100)
        given.append({"input_ids": source, "decoder_input_ids": target, "labels": labels} | masks)
    fits = least_squares(declaration(model), model, [case.build(1), case.build(1)], [0.3, 0.7], given)
    assert any("decoder" in name for name in fits)
    torch.testing.assert_close(case.logits(model), reference, atol=1e-5, rtol=1e-5)
