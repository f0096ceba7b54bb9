"""The flow between models of different widths, in every family: the anchor's shape, and exact where it can be."""

import pytest
import torch
from cases import CASES, Case

from transfuse.alignment.flow.heads import cross_head, without_scales
from transfuse.alignment.interface import AlignContext
from transfuse.alignment.methods import ALIGNMENT_METHODS
from transfuse.alignment.transform import transform_all
from transfuse.base.batch import cast
from transfuse.config.flow_options import FlowOptions
from transfuse.merging.mean import mean
from transfuse.network.layout import unfused
from transfuse.network.model import network, with_tensors
from transfuse.network.space import Product
from transfuse.network.symmetry import symmetric
from transfuse.transport.maps import from_plan

CPU = torch.device("cpu")
families = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def batches(case: Case) -> list[dict[str, torch.Tensor]]:
    config = case.configure()
    return [cast(case.inputs(config, seed), torch.float64) for seed in range(30)]


def is_flat(case: Case) -> bool:
    """Whether heads stand around nothing but free channels, so that the flow maps them across heads."""
    flat = cross_head(without_scales(unfused(case.spec(case.build()))))
    return not any(isinstance(op.writes, Product) for op in flat.linears())


def doubling(case: Case) -> dict[str, int]:
    """What the flow can double: everything, or, where heads are matched one to one, what does not touch them."""
    sizes = case.doubled()
    if is_flat(case):
        return sizes
    bound = not any(name in case.sizes for name in ("head_dim", "d_kv"))  # the width then sets the size of a head
    beside = {"intermediate_size", "d_ff"} if bound else {"hidden_size", "d_model", "intermediate_size", "d_ff"}
    return {name: size for name, size in sizes.items() if name in beside}


def doubled(case: Case, seed: int = 1):
    """A model and the same function with every unit twice, in random order; the channels of a head stay."""
    model, sizes = case.build(seed), doubling(case)
    wide = case.build(seed, **sizes)
    spec, target = (symmetric(unfused(case.spec(each))) for each in (model, wide))
    generator = torch.Generator().manual_seed(0)
    maps = {}
    for name, space in spec.spaces().items():
        if target.spaces()[name].units == 2 * space.units:
            twice = torch.randperm(2 * space.units, generator=generator) % space.units
            plan = torch.nn.functional.one_hot(twice, space.units).T.double() / (2 * space.units)
            maps[name] = from_plan(plan)
    return model, with_tensors(wide, transform_all(spec, network(model, CPU).tensors, maps))


@families
@pytest.mark.parametrize("evidence", ["activations", "weights"])
def test_a_hard_flow_doubles_and_halves_exactly(case, evidence):
    """Into its own double, a model is carried without a change of function; and back, without any change."""
    if not doubling(case):
        pytest.skip("no width can be doubled without a change of function")
    narrow, wide = doubled(case)
    reference = case.logits(narrow)
    torch.testing.assert_close(case.logits(wide), reference)
    small, large = network(narrow, CPU), network(wide, CPU)
    choices = AlignContext(evidence, batches(case), FlowOptions(plan="hard"))
    close = {"atol": 1e-6, "rtol": 1e-6}  # some models compute their norms in float32
    widened = ALIGNMENT_METHODS["flow"](large, small, choices).carried
    torch.testing.assert_close(case.logits(doubled(case)[1], widened), reference, **close)
    narrowed = ALIGNMENT_METHODS["flow"](small, large, choices).carried
    for name, values in small.tensors.items():
        torch.testing.assert_close(narrowed[name], values, **close)


@families
@pytest.mark.parametrize("plan", ["soft", "hard"])
@pytest.mark.parametrize("sizes", [{"hidden_size": 36}, {"intermediate_size": 20}, {"num_attention_heads": 4}], ids=str)
def test_the_anchors_shape_comes_out(case, plan, sizes):
    """Another hidden size, FFN or number of heads, in either direction."""
    if not is_flat(case) or any(name not in case.sizes for name in sizes):
        pytest.skip("heads are matched one to one; what else may differ, the doubling shows")
    models = network(case.build(1), CPU), network(case.build(2, **sizes), CPU)
    for anchor, source in (models, models[::-1]):
        for evidence in ("activations", "weights"):
            context = AlignContext(evidence, batches(case), FlowOptions(plan=plan))
            aligned = ALIGNMENT_METHODS["flow"](anchor, source, context)
            merged = mean([aligned.anchor, aligned.carried], [0.5, 0.5])
            assert {name: values.shape for name, values in merged.items()} == {
                name: values.shape for name, values in anchor.tensors.items()
            }
            assert torch.isfinite(case.logits(anchor.model, merged)).all()
