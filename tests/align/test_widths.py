"""The flow between models of different widths, in every family: the anchor's shape, and exact where it can be."""

import pytest
import torch
from cases import CASES, Case

from transfuse.align.methods import METHODS, Choices
from transfuse.batch import cast
from transfuse.choices import Paper
from transfuse.merge.apply import carry_all
from transfuse.merge.mean import mean
from transfuse.network.layout import opened
from transfuse.network.model import network, with_tensors
from transfuse.network.symmetry import symmetric
from transfuse.transport.maps import from_plan

CPU = torch.device("cpu")
families = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def batches(case: Case) -> list[dict[str, torch.Tensor]]:
    return [cast(case.inputs(case.build().config, seed), torch.float64) for seed in range(30)]


def doubled(case: Case, seed: int = 1):
    """A model and the same function with every unit twice, in random order; the channels of a head stay."""
    model = case.build(seed)
    spec = symmetric(opened(case.spec(model)))
    generator = torch.Generator().manual_seed(0)
    maps = {}
    for name, space in spec.spaces().items():
        if space.within is None:
            twice = torch.randperm(2 * space.units, generator=generator) % space.units
            plan = torch.nn.functional.one_hot(twice, space.units).T.double() / (2 * space.units)
            maps[name] = from_plan(plan)
    wide = case.build(seed, **case.doubled())
    return model, with_tensors(wide, carry_all(spec, network(model, CPU).tensors, maps))


@families
@pytest.mark.parametrize("evidence", ["activations", "weights"])
def test_a_hard_flow_doubles_and_halves_exactly(case, evidence):
    """Into its own double, a model is carried without a change of function; and back, without any change."""
    narrow, wide = doubled(case)
    reference = case.logits(narrow)
    torch.testing.assert_close(case.logits(wide), reference)
    small, large = network(narrow, CPU), network(wide, CPU)
    choices = Choices(evidence, batches(case), Paper("hard"))
    widened = _with_class_token_of(large, METHODS["flow"](large, small, choices).carried, evidence)
    torch.testing.assert_close(case.logits(doubled(case)[1], widened), reference, atol=1e-8, rtol=1e-8)
    narrowed = _with_class_token_of(small, METHODS["flow"](small, large, choices).carried, evidence)
    for name, values in small.tensors.items():
        torch.testing.assert_close(narrowed[name], values, atol=1e-8, rtol=1e-8)


def _with_class_token_of(anchor, carried, evidence):
    """One normalised number per unit, 1 or -1, tells nothing of a class token: the paper's weights cannot map it."""
    name = "vit.embeddings.cls_token"
    return {**carried, name: anchor.tensors[name]} if evidence == "weights" and name in carried else carried


@families
@pytest.mark.parametrize("plan", ["soft", "hard"])
@pytest.mark.parametrize("sizes", [{"hidden_size": 36}, {"intermediate_size": 20}, {"num_attention_heads": 4}], ids=str)
def test_the_anchors_shape_comes_out(case, plan, sizes):
    """Another hidden size, FFN or number of heads, in either direction."""
    models = network(case.build(1), CPU), network(case.build(2, **sizes), CPU)
    for anchor, source in (models, models[::-1]):
        for evidence in ("activations", "weights"):
            aligned = METHODS["flow"](anchor, source, Choices(evidence, batches(case), Paper(plan)))
            merged = mean([aligned.anchor, aligned.carried], [0.5, 0.5])
            assert {name: values.shape for name, values in merged.items()} == {
                name: values.shape for name, values in anchor.tensors.items()
            }
            assert torch.isfinite(case.logits(anchor.model, merged)).all()
