"""What proves a declaration, for every family (CASES): symmetry, recovery, mutation, completeness, widening."""

import pytest
import torch
import transformers
from cases import CASES, HEADS, Case

from transfuse.alignment.exact.canonical_form import canonicalize
from transfuse.alignment.exact.groups import as_matrix, random_alignment
from transfuse.alignment.interface import AlignContext
from transfuse.alignment.methods import ALIGNMENT_METHODS
from transfuse.alignment.transform import transform_all, transform_tensor
from transfuse.base.batch import cast
from transfuse.errors import SpecError
from transfuse.fusion.fuse import fuse
from transfuse.merging.mean import mean
from transfuse.network.families import FAMILIES
from transfuse.network.layout import split_fused, unfused
from transfuse.network.model import network, with_tensors, with_tied
from transfuse.network.space import Group, Space
from transfuse.network.spec import Spec
from transfuse.network.symmetry import fold, restrict, symmetric
from transfuse.transport.maps import from_plan

EXACT = 1e-9
families = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
with_all_heads = pytest.mark.parametrize("case", [*CASES, *HEADS], ids=lambda case: case.name)


def without_rotations(spec: Spec) -> Spec:
    """The same spaces, streams with no more than their permutations: needs no folding."""
    streams = (Group.CENTERED, Group.ORTHOGONAL)
    return restrict(
        spec, lambda space: Group.PERMUTATION if space.group in streams and space.units > 1 else space.group
    )


def weights(case: Case, model) -> dict:
    """The tensors that an opened declaration names."""
    return dict(split_fused(case.spec(model), model.state_dict()))


def deviation(case: Case, carried: dict, reference: torch.Tensor) -> float:
    return float((case.logits(case.build(), carried) - reference).abs().max() / reference.abs().max())


@with_all_heads
def test_folding_and_balancing_keep_the_function(case):
    model = case.build()
    spec = symmetric(unfused(case.spec(model)))
    reference = case.logits(model)
    assert deviation(case, fold(spec, weights(case, model)), reference) < EXACT
    gauge = canonicalize(spec, weights(case, model))
    assert deviation(case, gauge, reference) < EXACT
    assert any((gauge[name] - values).abs().gt(0.01).any() for name, values in weights(case, model).items())


@with_all_heads
@pytest.mark.parametrize("seed", [1, 2])
def test_symmetry_full_group(case, seed):
    """A random element of every exact group leaves the logits unchanged and moves every free space."""
    model = case.build()
    spec = symmetric(unfused(case.spec(model)))
    reference = case.logits(model)
    folded = dict(fold(spec, weights(case, model)))
    maps = random_alignment(spec, seed)
    assert maps.keys() == spec.spaces().keys()
    for name, chosen in maps.items():
        units = spec.spaces()[name].units
        assert chosen.exactness() < EXACT
        assert (as_matrix(chosen, units) - torch.eye(units)).abs().max() > 0.05
    assert deviation(case, transform_all(spec, folded, maps), reference) < EXACT


@with_all_heads
def test_symmetry_without_rotations_needs_no_folding(case):
    model = case.build()
    spec = without_rotations(symmetric(unfused(case.spec(model))))
    reference = case.logits(model)
    assert deviation(case, transform_all(spec, weights(case, model), random_alignment(spec, 1)), reference) < EXACT


def _positions(case: Case) -> list[tuple[str, int]]:
    spec = symmetric(unfused(case.spec(case.build())))
    return [
        (name, position)
        for name, axes in spec.tensors().items() if not name.endswith(case.inert or ("\0",))
        for position, axis in enumerate(axes) if any(space.free for space in axis.spaces())
    ]  # fmt: skip


@families
def test_mutation(case):
    """Leaving any one declared axis out breaks the symmetry."""
    model = case.build()
    spec = without_rotations(symmetric(unfused(case.spec(model))))
    reference = case.logits(model)
    maps = random_alignment(spec, 1)
    whole = dict(transform_all(spec, weights(case, model), maps))
    tensors = spec.tensors()
    for name, position in _positions(case):
        axes = tensors[name]
        fixed = Space("left out", axes[position].size, Group.FIXED)
        left = (*axes[:position], fixed, *axes[position + 1 :])
        gone = {space.name for space in axes[position].spaces()} - {s.name for axis in left for s in axis.spaces()}
        inside = {space.name for space in spec.spaces().values() if gone & {each.name for each in space.ancestors()}}
        kept = {space: chosen for space, chosen in maps.items() if space not in inside}
        mutated = transform_tensor(weights(case, model)[name], left, kept)
        assert deviation(case, whole | dict.fromkeys(with_tied(model, {name}), mutated), reference) > 1e-6, (
            f"{name}, axis {position}: undetected"
        )


@pytest.mark.parametrize("case", [case for case in CASES if case.inert], ids=lambda case: case.name)
def test_what_is_called_inert_is(case):
    model = case.build()
    reference = case.logits(model)
    found = weights(case, model)
    inert = [name for name in found if name.endswith(case.inert)]
    assert inert
    for name in inert:
        assert deviation(case, found | {name: torch.randn_like(found[name])}, reference) < EXACT


@with_all_heads
def test_completeness(case, tmp_path):
    """Every tensor is declared once, and every wrong shape, missing or extra tensor is said by name."""
    model = case.build()
    spec = case.spec(model)
    shapes = {name: tuple(values.shape) for name, values in model.state_dict().items()}
    spec.validate(shapes)
    assert spec.tensors().keys() == shapes.keys()
    for name, shape in shapes.items():
        for position, size in enumerate(shape):
            wrong = (*shape[:position], size + 1, *shape[position + 1 :])
            with pytest.raises(SpecError, match=f"tensor {name} has shape"):
                spec.validate(shapes | {name: wrong})
        with pytest.raises(SpecError, match=name):
            spec.validate({other: shape for other, shape in shapes.items() if other != name})
    with pytest.raises(SpecError, match="extra"):
        spec.validate(shapes | {"extra": (1,)})


@families
@pytest.mark.parametrize("evidence", ["weights", "activations", "both"])
def test_recovery(case, evidence):
    """Aligning a model to a copy moved by a random element of its whole group gives the copy back."""
    model = case.build()
    spec = symmetric(unfused(case.spec(model)))
    reference = case.logits(model)
    copy = case.build()
    copy = with_tensors(copy, transform_all(spec, fold(spec, weights(case, model)), random_alignment(spec, 3)))
    source, anchor = (network(each, torch.device("cpu")) for each in (case.build(), copy))
    batches = [cast(case.inputs(model.config, seed), torch.float64) for seed in range(40)]
    aligned = ALIGNMENT_METHODS["exact"](anchor, source, AlignContext(evidence, batches))
    assert max(match.map.exactness() for match in aligned.matches.values()) < 1e-6
    for name, values in aligned.anchor.items():
        if not (case.inert and name.endswith(case.inert)):
            torch.testing.assert_close(aligned.carried[name], values, atol=1e-6, rtol=1e-6)
    fused = mean([aligned.anchor, aligned.carried], [0.5, 0.5])
    assert deviation(case, fused, reference) < 1e-6
    plain = mean([anchor.tensors, source.tensors], [0.5, 0.5])
    assert deviation(case, plain, reference) > 0.1


@families
def test_a_carried_source_keeps_its_function(case):
    """Whatever the evidence, an exact alignment changes no output of the source."""
    source, anchor = (network(case.build(seed), torch.device("cpu")) for seed in (1, 2))
    aligned = ALIGNMENT_METHODS["exact"](anchor, source, AlignContext("weights"))
    reference = case.logits(case.build(1))
    assert deviation(case, dict(aligned.carried), reference) < 1e-7
    assert deviation(case, dict(aligned.anchor), case.logits(case.build(2))) < 1e-7


@families
def test_widening_and_narrowing(case):
    """Every unit twice, and back: the same function, wider and again. Channels of attention scores stay as they are."""
    if not case.double:
        pytest.skip("the width itself enters the function: words or outputs are scaled by its root")
    model = case.build()
    wide = case.build(**case.doubled())
    narrow_spec, wide_spec = (symmetric(unfused(case.spec(each))) for each in (model, wide))
    generator = torch.Generator().manual_seed(0)
    plans = {}
    for name, space in narrow_spec.spaces().items():
        if space.within is None and not name.endswith(".expert"):  # of two equal experts, one is chosen
            twice = torch.randperm(2 * space.units, generator=generator) % space.units
            plans[name] = torch.nn.functional.one_hot(twice, space.units).T.double() / (2 * space.units)
    widened = transform_all(narrow_spec, weights(case, model), {name: from_plan(plan) for name, plan in plans.items()})
    reference = case.logits(model)
    assert torch.allclose(case.logits(wide, widened), reference, atol=1e-9)
    narrowed = transform_all(wide_spec, widened, {name: from_plan(plan.T) for name, plan in plans.items()})
    for name, values in weights(case, model).items():
        torch.testing.assert_close(narrowed[name], values, atol=1e-12, rtol=1e-12)


@families
@pytest.mark.parametrize("align", ["none", "flow", "exact"])
def test_saved_and_reloaded(case, align, tmp_path):
    """Every method's result is an ordinary checkpoint of the anchor's class that computes the same."""
    models = [case.build(seed).float() for seed in (1, 2, 3)]
    fusion = fuse(models, align=align)
    assert type(fusion.model) is case.architecture
    fusion.save(tmp_path / "fused")
    found, report = case.architecture.from_pretrained(tmp_path / "fused", output_loading_info=True)
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    if found._can_set_experts_implementation():
        found.set_experts_implementation("eager")  # the fast kernels know no float64
    assert torch.allclose(case.logits(found.double()), case.logits(fusion.model.double()), atol=1e-6)


def test_every_declared_class_has_a_case():
    declared = {name for name in FAMILIES if hasattr(transformers, name)}  # other tests may have registered their own
    assert {case.architecture.__name__ for case in (*CASES, *HEADS)} == declared
