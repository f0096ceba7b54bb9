"""Learned maps: every latent is an element of its group, and what is learned brings models together."""

import pytest
import torch
from cases import CASES, HEADS

from transfuse.alignment.exact.gradient import refine_maps
from transfuse.alignment.exact.groups import random_alignment
from transfuse.alignment.exact.parametrizations import MAX_CONDITION, GroupParameters, is_trainable
from transfuse.alignment.interface import AlignContext
from transfuse.alignment.methods import ALIGNMENT_METHODS
from transfuse.alignment.transform import transform_all
from transfuse.base.batch import IGNORED_LABEL, cast
from transfuse.config.literals import LearningOptions
from transfuse.distillation.validation import INTERVAL
from transfuse.errors import DataError, SpecError
from transfuse.merging.mean import mean
from transfuse.network.layout import unfused
from transfuse.network.model import network, with_tensors
from transfuse.network.space import Group, Space
from transfuse.network.symmetry import fold, symmetric

CPU = torch.device("cpu")
families = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def moved(spec, seed=0, size=0.3):
    """GroupParameters away from where they start."""
    spaces = {name: space for name, space in spec.spaces().items() if is_trainable(space)}
    latents = GroupParameters(spaces, CPU).double()
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in latents.parameters():
            parameter.add_(size * torch.randn_like(parameter))
    return latents


@families
def test_every_latent_keeps_the_function_and_means_the_same_soft_and_hard(case):
    model = case.build(1)
    spec = symmetric(unfused(case.spec(model)))
    reference = case.logits(model)
    tensors = fold(spec, dict(network(model, CPU).tensors))
    latents = moved(spec, size=0.6)
    for maps in (latents.rounded(), latents.relaxed()):
        carried = {name: values.detach() for name, values in transform_all(spec, tensors, maps).items()}
        torch.testing.assert_close(case.logits(case.build(2), carried), reference, atol=1e-6, rtol=1e-6)
        assert any((carried[name] - tensors[name]).abs().max() > 0.1 for name in tensors)


@families
def test_gradients_reach_every_latent(case):
    model = case.build(1)
    spec = symmetric(unfused(case.spec(model)))
    tensors = fold(spec, dict(network(model, CPU).tensors))
    latents = moved(spec)
    torch.manual_seed(0)
    carried = transform_all(spec, tensors, latents.relaxed())
    sum((values * torch.randn_like(values)).sum() for values in carried.values()).backward()
    assert all(parameter.grad is not None and parameter.grad.abs().max() > 0 for parameter in latents.parameters())


def test_invertible_latents_stay_well_conditioned():
    latents = GroupParameters({"x": Space("x", 6, Group.LINEAR)}, CPU).double()
    with torch.no_grad():
        next(latents.parameters()).copy_(100 * torch.randn(6, 6, generator=torch.Generator().manual_seed(0)))
    assert torch.linalg.cond(latents.rounded()["x"].forward) <= MAX_CONDITION * (1 + 1e-9)


def parents(case=CASES[0]):
    networks = [network(case.build(seed), CPU) for seed in (1, 2)]
    batches = [cast(case.inputs(networks[0].model.config, seed), torch.float64) for seed in range(20)]
    return networks, [ALIGNMENT_METHODS["exact"](*networks, AlignContext("weights"))], batches


def learned(steps, state=None, **options):
    networks, alignments, batches = parents()
    models = [each.model for each in networks]
    return refine_maps(models, alignments, [0.5, 0.5], batches, LearningOptions(steps=steps, **options), state=state)


def test_the_models_meet_and_keep_their_function():
    (aligned,), course = learned(100)
    assert min(course.excess) < 0.8 * course.excess[0]
    model, case = CASES[0].build(2), CASES[0]
    reference = case.logits(model)
    torch.testing.assert_close(case.logits(model, aligned.carried), reference, atol=1e-6, rtol=1e-6)


def test_a_run_that_was_cut_short_ends_as_one_that_was_not(tmp_path, cut_short):
    state = tmp_path / "state"
    cut_short(lambda: learned(2 * INTERVAL, state))
    (resumed,), after = learned(2 * INTERVAL, state)
    (whole,), course = learned(2 * INTERVAL)
    assert after == course
    for name in whole.carried:
        torch.testing.assert_close(resumed.carried[name], whole.carried[name], atol=0, rtol=0)


def test_an_element_common_to_both_models_changes_nothing():
    """Why the anchor need not move: the mean of two models carried alike is the mean, carried."""
    case = CASES[0]
    networks, (aligned,), _ = parents()
    maps = random_alignment(aligned.spec, 5)
    both = [transform_all(aligned.spec, each, maps) for each in (aligned.anchor, aligned.carried)]
    model = networks[0].model
    still = case.logits(with_tensors(model, mean([aligned.anchor, aligned.carried], [0.5, 0.5])))
    torch.testing.assert_close(case.logits(with_tensors(model, mean(both, [0.5, 0.5]))), still, atol=1e-6, rtol=1e-6)


def test_refused_without_samples_or_without_a_head():
    networks, alignments, _ = parents()
    models = [each.model for each in networks]
    with pytest.raises(DataError, match="at least two samples"):
        refine_maps(models, alignments, [0.5, 0.5], [], LearningOptions())
    bare = next(case for case in HEADS if case.name == "BertModel")
    models = [bare.build(seed) for seed in (1, 2)]
    with pytest.raises(SpecError, match="no prediction head"):
        refine_maps(
            models, alignments, [0.5, 0.5], [cast(bare.inputs(models[0].config), torch.float64)] * 9, LearningOptions()
        )


def test_units_that_turn_round_can_change_places():
    """A signed swap, by descent alone."""
    torch.manual_seed(0)
    latents = GroupParameters({"x": Space("x", 4, Group.SIGNED)}, CPU)
    target = torch.eye(4)[[1, 0, 3, 2]] * torch.tensor([1.0, -1.0, 1.0, 1.0])
    adam = torch.optim.Adam(latents.parameters(), lr=0.05)
    for _ in range(200):
        adam.zero_grad()
        (latents.relaxed()["x"].forward - target).square().sum().backward()
        adam.step()
    found = latents.rounded()["x"]
    torch.testing.assert_close(found.push(torch.eye(4).double()), target.double())


def test_batches_in_which_nothing_is_asked_are_left_out():
    case = next(case for case in CASES if case.name == "BertForMaskedLM")
    networks = [network(case.build(seed), CPU) for seed in (1, 2)]
    alignments = [ALIGNMENT_METHODS["exact"](*networks, AlignContext("weights"))]
    batches = []
    for seed in range(12):
        words = case.inputs(networks[0].model.config, seed)
        labels = torch.full_like(words["input_ids"], IGNORED_LABEL)
        labels[:, 2] = words["input_ids"][:, 2] if seed % 3 else IGNORED_LABEL
        batches.append(words | {"labels": labels})
    models = [each.model for each in networks]
    _, course = refine_maps(models, alignments, [0.5, 0.5], batches, LearningOptions(steps=3))
    assert all(torch.tensor(course.excess).isfinite())
    with pytest.raises(DataError, match="no text with a token to predict"):
        refine_maps(models, alignments, [0.5, 0.5], batches[::3], LearningOptions(steps=3))
