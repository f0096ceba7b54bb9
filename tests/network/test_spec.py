"""Declarations that contradict themselves, and models that do not fit each other."""

import pytest
import torch
from cases import CASES
from torch import nn
from transformers import BertConfig, ViTConfig

from transfuse.errors import SpecError
from transfuse.network.builder import Builder
from transfuse.network.compatible import check_same_function, check_same_layers, check_same_widths
from transfuse.network.families import declare
from transfuse.network.model import network
from transfuse.network.space import Group
from transfuse.network.symmetry import symmetric

VIT = CASES[0]


def config(**changes):
    return ViTConfig(**{**VIT.sizes, **changes})


def spec(**changes):
    return declare(config(**changes), "ViTForImageClassification")


def test_a_tensor_declared_twice():
    s = Builder("toy")
    x = s.free("x", 4)
    s.linear("layer", s.fixed("in", 2), x)
    s.linear("layer", s.fixed("in", 2), x)
    with pytest.raises(SpecError, match=r"layer\.weight is declared twice"):
        s.build()


def test_one_name_for_two_spaces():
    s = Builder("toy")
    s.linear("first", s.fixed("x", 2), s.free("x", 4))
    with pytest.raises(SpecError, match="space x is declared as"):
        s.build()


def test_an_unknown_architecture_names_the_near_ones():
    with pytest.raises(SpecError, match=r"ViTForX \(model type vit\).*ViTForImageClassification"):
        declare(ViTConfig(), "ViTForX")


def test_stream_behind_norms_rotates_and_a_bare_reader_takes_that_away():
    assert symmetric(spec()).spaces()["stream"].group is Group.CENTERED
    s = Builder("toy")
    x = s.join("sum", s.free("a", 4), s.free("b", 4))
    s.linear("head", x, s.fixed("class", 2))
    assert symmetric(s.build()).spaces()["stream"].group is Group.PERMUTATION


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_hidden_layers": 3}, "B: num_hidden_layers is 3, the anchor's is 2; fuse models of equal depth"),
        ({"num_labels": 7}, "B: num_labels .* is 7, the anchor's is 5; .*classes"),
        ({"num_channels": 3}, "B: num_channels is 3, the anchor's is 2; .*channels"),
        ({"image_size": 16, "hidden_size": 48}, "B: image_size is 16, the anchor's is 12; positions"),
        ({"qkv_bias": False}, "B: qkv_bias is false, the anchor's is true; .*optional weights"),
    ],
)
def test_layers_that_cannot_be_matched(changes, message):
    with pytest.raises(SpecError, match=message):
        check_same_layers(config(), config(**changes), "ViTForImageClassification", "B")


@pytest.mark.parametrize(("groups", "others"), [(3, 1), (1, 3)])
def test_a_single_group_of_heads_matches_no_others(groups, others):
    llama = next(case for case in CASES if case.name == "LlamaForCausalLM")
    configs = [llama.configure(num_key_value_heads=count) for count in (groups, others)]
    expected = f"^B: num_key_value_heads is {others}, the anchor's is {groups}; heads of this architecture"
    with pytest.raises(SpecError, match=expected):
        check_same_layers(*configs, "LlamaForCausalLM", "B")


def test_widths_may_differ_between_layers_but_not_for_exact():
    check_same_layers(config(), config(hidden_size=48), "ViTForImageClassification")
    models = (network(VIT.build(**sizes), torch.device("cpu"), "B") for sizes in ({}, {"hidden_size": 48}))
    with pytest.raises(SpecError, match=r"B: hidden_size is 48, the anchor's is 24; exact alignment .*--align flow"):
        check_same_widths(*models, "exact")


def test_functions_that_differ():
    with pytest.raises(SpecError, match="hidden_act is"):
        check_same_function(ViTConfig(hidden_act="relu"), ViTConfig())


@pytest.mark.parametrize("other", [{"problem_type": "multi_label_classification"}, {"problem_type": "regression"}])
def test_classifiers_of_other_problems(other):
    pair = (BertConfig(num_labels=3), BertConfig(num_labels=3, **other))
    for anchor, source in (pair, pair[::-1]):
        with pytest.raises(SpecError, match=r"problem_type is .* the anchor's is .*--head anchor"):
            check_same_function(anchor, source, architecture="BertForSequenceClassification")
        check_same_function(anchor, source, architecture="BertForMaskedLM")


def test_other_classes():
    named = [ViTConfig(id2label=dict(enumerate(names))) for names in (["cat", "dog"], ["cat", "owl"], ["Cat", "dog "])]
    with pytest.raises(SpecError, match="class 1 in id2label is 'owl', the anchor's is 'dog'"):
        check_same_function(named[0], named[1], architecture="ViTForImageClassification")
    check_same_function(named[0], named[1], architecture="ViTForMaskedImageModeling")
    for same in (named[2], ViTConfig(num_labels=2)):
        check_same_function(named[0], same, architecture="ViTForImageClassification")


def test_declared_module_names_exist():
    model = VIT.build()
    found = [model.get_submodule(linear.name) for linear in VIT.spec(model).linears()]
    assert {type(each) for each in found} == {nn.Linear, nn.Conv2d}
