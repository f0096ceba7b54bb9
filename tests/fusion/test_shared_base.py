"""Models of one base are recognized from a few matrices and not aligned, unless the user chose an alignment."""

import copy
from pathlib import Path

import pytest
import torch
from cases import CASES, Case
from kept_warnings import KeptWarnings
from transformers import PreTrainedModel

import transfuse
from transfuse.cli.jobs.fuse import plan_job
from transfuse.config.job import Job
from transfuse.config.make import make
from transfuse.errors import ConfigError
from transfuse.fusion.models.shared_base import SHARED, base_correlation, correlation, correlations
from transfuse.network.model import network

VIT = CASES[0]
CPU = torch.device("cpu")


def tuned(model: PreTrainedModel, seed: int, share: float) -> PreTrainedModel:
    """The model after a change of every matrix by a share of its deviation."""
    changed = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in changed.parameters():
            if weight.ndim > 1:
                weight.add_(share * weight.std() * torch.randn(weight.shape, generator=generator).to(weight))
    return changed


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_fine_tunes_are_told_from_models_of_other_seeds(case: Case) -> None:
    """One fine-tune has moved five times as far as the other."""
    model = case.build()
    base = network(model, CPU)
    near, far = network(tuned(model, 1, 0.1), CPU), network(tuned(model, 2, 0.5), CPU)
    other = network(case.build(3), CPU)
    assert base_correlation([near, far]) is not None
    assert base_correlation([near, other]) is None
    assert base_correlation([near, far, other]) is None
    assert max(correlations(base.spec, base.tensors, other.tensors)) < 0.5


def test_means_of_rows_and_columns_do_not_count() -> None:
    generator = torch.Generator().manual_seed(0)
    first, second = torch.randn(2, 40, 50, generator=generator)
    common = 10 * torch.randn(50, generator=generator) + 10 * torch.randn(40, 1, generator=generator)
    assert abs(correlation(first + common, second + common)) < 0.1
    assert correlation(first, first + common) == pytest.approx(1, abs=1e-4)
    assert correlation(first, torch.zeros(40, 50)) == 0
    assert correlation(torch.zeros(40, 50), torch.zeros(40, 50)) == 1


def test_a_copy_of_another_size_and_one_moved_matrix_are_noticed() -> None:
    """Weights scaled against each other, or a single layer in another order, have to be aligned."""
    first = torch.randn(40, 50, generator=torch.Generator().manual_seed(0))
    assert correlation(first, 3 * first) < SHARED < correlation(first, 1.2 * first)
    model = next(case for case in CASES if case.name == "LlamaForCausalLM").build().float()
    moved = copy.deepcopy(model)
    layer = moved.model.layers[-1].mlp
    order = torch.arange(layer.up_proj.out_features).roll(1)
    with torch.no_grad():
        for map_ in (layer.up_proj, layer.gate_proj):
            map_.weight.copy_(map_.weight[order])
        layer.down_proj.weight.copy_(layer.down_proj.weight[:, order])
    assert base_correlation([network(each, CPU) for each in (model, copy.deepcopy(model))]) == pytest.approx(1)
    assert base_correlation([network(each, CPU) for each in (model, moved)]) is None


def test_they_are_not_aligned_and_the_user_is_told() -> None:
    base = VIT.build().float()
    models = [tuned(base, 1, 0.1), tuned(base, 2, 0.1)]
    heard = KeptWarnings()
    fusion = transfuse.fuse(models, progress=heard)
    assert fusion.options.align == "none"
    assert "the models share a base" in heard.lines[0]
    assert fusion.record["shared_base"]["correlation"] > 0.9
    assert "aligned: none, as they share a base" in repr(fusion)
    plain = transfuse.fuse(models, align="none").model.state_dict()
    assert all(torch.equal(values, plain[name]) for name, values in fusion.model.state_dict().items())


@pytest.mark.parametrize("chosen", [{"align": "exact"}, {"groups": "permutations"}, {"match_on": "weights"}], ids=str)
def test_a_chosen_alignment_is_done(chosen: dict[str, str]) -> None:
    base = VIT.build().float()
    fusion = transfuse.fuse([tuned(base, 1, 0.1), tuned(base, 2, 0.1)], **chosen)
    assert fusion.options.align == "exact"
    assert "shared_base" not in fusion.record


def test_samples_are_used_as_without_a_base() -> None:
    """What is skipped is the alignment, not the fit to the samples."""
    options = make(Job, {"models": ("a", "b"), "data": "d"})
    assert options.without_alignment().merging(True) == options.merging(True) != "mean"
    assert make(Job, {"models": ("a", "b"), "data": "d", "align": "none"}).merging(True) == "mean"


def test_the_plan_says_so(tmp_path: Path) -> None:
    base = VIT.build().float()
    for name, model in (("a", tuned(base, 1, 0.1)), ("b", tuned(base, 2, 0.1)), ("c", VIT.build(3).float())):
        model.save_pretrained(tmp_path / name)
    a, b, c = (str(tmp_path / name) for name in "abc")
    found = plan_job(make(Job, {"models": (a, b)}))
    assert found.base_correlation is not None
    assert (found.spaces, found.map_bytes) == ((), 0)
    assert plan_job(make(Job, {"models": (a, c)})).base_correlation is None
    based = plan_job(make(Job, {"models": (a, b), "base": c, "merge": "ties"}))
    assert based.base_correlation is None


def test_the_plan_and_the_fusion_need_the_same_memory(tmp_path: Path) -> None:
    """Maps are part of neither if the models share a base, whether these are files or loaded."""
    base = VIT.build().float()
    models = [tuned(base, 1, 0.01), tuned(base, 2, 0.01)]
    paths = [str(tmp_path / name) for name in "ab"]
    for model, path in zip(models, paths, strict=True):
        model.save_pretrained(path)
    planned = plan_job(make(Job, {"models": tuple(paths)})).loaded_bytes
    aligned = plan_job(make(Job, {"models": tuple(paths), "align": "exact"})).loaded_bytes
    for given in (paths, models):
        assert transfuse.match(given, max_memory=planned, stream=False).inputs.loaded_bytes == planned < aligned
    with pytest.raises(ConfigError, match="max_memory"):
        transfuse.match(models, max_memory=planned - 1)


def test_a_moved_matrix_that_was_not_compared_needs_the_memory_of_an_alignment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transfuse.fusion.models.unloaded.MATRICES", 2)  # the first and the last
    base = VIT.build().float()
    moved = tuned(base, 1, 0.01)
    weight = moved.get_parameter("vit.layers.0.mlp.fc1.weight")
    with torch.no_grad():
        weight.copy_(weight.roll(1, 0))
    matched = transfuse.match([base, moved])
    assert matched.base_correlation is None
    assert matched.inputs.loaded_bytes == transfuse.match([base, moved], align="exact").inputs.loaded_bytes
