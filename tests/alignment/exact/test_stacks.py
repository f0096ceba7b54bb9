"""Experts are matched for one pair at a time: as well as by comparing all pairs, and with little memory."""

import pytest
import torch
from cases import CASES
from transformers import LlamaConfig, OlmoeConfig

from transfuse.alignment.exact import stacked_assignment, stacked_samples
from transfuse.alignment.exact.groups import random_alignment
from transfuse.alignment.exact.stacked_samples import StackedSamples, large_stacks
from transfuse.alignment.interface import AlignContext
from transfuse.alignment.methods import ALIGNMENT_METHODS
from transfuse.alignment.transform import transform_all
from transfuse.network.families import declare
from transfuse.network.layout import unfused
from transfuse.network.model import network, unfused_tensors, with_tensors
from transfuse.network.symmetry import fold, symmetric

CPU = torch.device("cpu")
mixtures = pytest.mark.parametrize(
    "case",
    [case for case in CASES if {"num_experts", "num_local_experts"} & {*case.sizes}],
    ids=lambda case: case.name,
)


def copy_in_another_basis(case, noise=0.0):
    """A copy of the case's model, moved by a random element of every group, with noise added to its weights."""
    model = case.build()
    spec = symmetric(unfused(case.spec(model)))
    moved = transform_all(spec, fold(spec, unfused_tensors(model)), random_alignment(spec, 1))
    torch.manual_seed(2)
    noisy = {name: values + noise * torch.randn_like(values) for name, values in moved.items()}
    return with_tensors(model, noisy)


def aligned(case, source):
    anchor, other = (network(model, CPU) for model in (case.build(), source))
    return ALIGNMENT_METHODS["exact"](anchor, other, AlignContext("weights"))


def in_pairs(monkeypatch):
    """Compare the units of two experts at a time, however small the models are. Return the shapes of all products."""
    monkeypatch.setattr(stacked_samples, "MAX_UNITS", 0)
    shapes = []
    products = StackedSamples.products

    def counted(self, source, target):
        result = products(self, source, target)
        shapes.append(tuple(result.shape))
        return result

    monkeypatch.setattr(StackedSamples, "products", counted)
    return shapes


@mixtures
def test_a_copy_is_found(case, monkeypatch):
    shapes = in_pairs(monkeypatch)
    alignment = aligned(case, copy_in_another_basis(case))
    for name, values in alignment.anchor.items():
        torch.testing.assert_close(alignment.carried[name], values, atol=1e-6, rtol=1e-6)
    assert shapes


@mixtures
@pytest.mark.parametrize("noise", [0.1, 0.3])
def test_a_noisy_copy_is_matched_as_by_all_pairs(case, noise, monkeypatch):
    source = copy_in_another_basis(case, noise)
    all_pairs = aligned(case, source)
    assert in_pairs(monkeypatch) == []
    pair_by_pair = aligned(case, source)
    for name, match in all_pairs.matches.items():
        torch.testing.assert_close(pair_by_pair.matches[name].map.plan(), match.map.plan())
        assert pair_by_pair.matches[name].cost == pytest.approx(match.cost, abs=1e-9)


@mixtures
def test_pruned_units_tell_nothing(case, monkeypatch):
    """The only units that experts are compared by may all be zero."""
    in_pairs(monkeypatch)
    monkeypatch.setattr(stacked_assignment, "ESTIMATED_UNITS", 1)
    model = case.build()
    tensors = dict(unfused_tensors(model))
    for name, axes in unfused(case.spec(model)).tensors().items():
        for dim, axis in enumerate(axes):
            if any(space.name.endswith(".hidden") and space.within for space in axis.spaces()):
                tensors[name] = tensors[name].clone().index_fill_(dim, torch.tensor([0]), 0)
    anchor, other = (network(with_tensors(model, tensors), CPU) for _ in range(2))
    alignment = ALIGNMENT_METHODS["exact"](anchor, other, AlignContext("weights"))
    for name, values in alignment.anchor.items():
        torch.testing.assert_close(alignment.carried[name], values, atol=1e-6, rtol=1e-6)


@mixtures
def test_independent_models_are_matched_nearly_as_well(case, monkeypatch):
    monkeypatch.setattr(stacked_assignment, "ESTIMATED_UNITS", 8)
    source = case.build(seed=7)
    all_pairs = aligned(case, source)
    in_pairs(monkeypatch)
    pair_by_pair = aligned(case, source)
    costs = [[match.cost for match in each.matches.values()] for each in (pair_by_pair, all_pairs)]
    assert sum(costs[0]) < 1.05 * sum(costs[1])


def test_products_are_those_of_two_experts(monkeypatch):
    case = next(case for case in CASES if case.name == "MixtralForCausalLM")
    monkeypatch.setattr(stacked_assignment, "ESTIMATED_UNITS", 12)
    shapes = in_pairs(monkeypatch)
    aligned(case, copy_in_another_basis(case, 0.3))
    assert {*shapes} == {
        (3, 13, 37),
        (1, 37, 37),
    }  # every third unit of 3 experts with one expert, and all units of two experts


def test_experts_of_real_size_are_stacks_and_heads_are_not():
    olmoe = OlmoeConfig(num_hidden_layers=2)
    llama = LlamaConfig(hidden_size=8192, num_attention_heads=64, num_key_value_heads=8, num_hidden_layers=1)
    specs = [
        symmetric(unfused(declare(*given))) for given in ((olmoe, "OlmoeForCausalLM"), (llama, "LlamaForCausalLM"))
    ]
    assert [{space.name for space in large_stacks(spec)} for spec in specs] == [{"0.expert", "1.expert"}, set()]
