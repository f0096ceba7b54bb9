"""Declarations that contradict themselves, and models that do not fit each other."""

import pytest
from cases import CASES
from transformers import ViTConfig, ViTForImageClassification

from transfuse.errors import SpecError
from transfuse.network.builder import Builder
from transfuse.network.compatible import check_same_function, check_same_layers, check_same_widths
from transfuse.network.families import declare
from transfuse.network.space import Group
from transfuse.network.symmetry import symmetric

VIT = CASES[0]


def spec(**changes):
    config = ViTConfig(**{**VIT.sizes, **changes})
    return declare(config, "ViTForImageClassification")


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
    assert symmetric(spec()).spaces()["stream"].group is Group.CENTRED
    s = Builder("toy")
    x = s.join("sum", s.free("a", 4), s.free("b", 4))
    s.linear("head", x, s.fixed("class", 2))
    assert symmetric(s.build()).spaces()["stream"].group is Group.PERMUTATION


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_hidden_layers": 3}, "only the other model has vit.layers.2"),
        ({"num_labels": 7}, "5 of class, the other model 7"),
        ({"num_channels": 3}, "2 of channel, the other model 3"),
        ({"image_size": 16}, "10 of place, the other model 17"),
        ({"qkv_bias": False}, "only the anchor has"),
    ],
)
def test_layers_that_cannot_be_matched(changes, message):
    with pytest.raises(SpecError, match=message):
        check_same_layers(spec(), spec(**changes))


def test_widths_may_differ_between_layers_but_not_for_exact():
    wide = spec(hidden_size=48)
    check_same_layers(spec(), wide)
    with pytest.raises(SpecError, match="--align flow"):
        check_same_widths(spec(), wide, "exact")


def test_functions_that_differ():
    with pytest.raises(SpecError, match="hidden_act is"):
        check_same_function(ViTConfig(hidden_act="relu"), ViTConfig())


def test_labels_in_another_order():
    cat_first, dog_first = (ViTConfig(id2label=dict(enumerate(names))) for names in (["cat", "dog"], ["dog", "cat"]))
    with pytest.raises(SpecError, match="class 0 is 'cat' in the anchor and 'dog'"):
        check_same_function(cat_first, dog_first)
    check_same_function(cat_first, ViTConfig(num_labels=2))


def test_declared_module_names_exist():
    model = VIT.build()
    for linear in VIT.spec(model).linears():
        assert model.get_submodule(linear.name) is not None
    assert isinstance(model, ViTForImageClassification)
