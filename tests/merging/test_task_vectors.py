"""Task vectors are merged as the papers say, tensor by tensor, whatever the order, the files or the device."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from cases import CASES
from safetensors.torch import load_file
from torch import Tensor
from transformers import PreTrainedModel, RobertaConfig, RobertaForSequenceClassification

import transfuse
from transfuse.errors import ConfigError
from transfuse.merging.per_layer import depths
from transfuse.merging.slerp import interpolate_on_arc
from transfuse.merging.task_vectors import add, add_elected, drop, trim
from transfuse.network.layout import unfused
from transfuse.network.model import declaration, tied_to

VIT = CASES[0]
TIED = next(case for case in CASES if case.name == "GPT2LMHeadModel")
METHODS = ("task-arithmetic", "ties", "dare-linear", "dare-ties")


def tuned(model: PreTrainedModel, seed: int, size: float = 0.05) -> PreTrainedModel:
    """The model after a small random change of every weight."""
    changed = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in changed.parameters():
            weight.add_(size * torch.randn(weight.shape, generator=generator).to(weight))
    return changed


def family(case: Any = VIT) -> tuple[PreTrainedModel, list[PreTrainedModel]]:
    base = case.build().float()
    return base, [tuned(base, 1), tuned(base, 2)]


def weights(model: PreTrainedModel) -> dict[str, Tensor]:
    return {name: values.clone() for name, values in model.state_dict().items()}


def test_trimming_keeps_the_largest() -> None:
    vector = torch.tensor([[1.0, -4.0, 0.5], [3.0, -2.0, 0.0]])
    assert trim(vector, 0.5).tolist() == [[0.0, -4.0, 0.0], [3.0, -2.0, 0.0]]
    assert trim(vector, 1.0) is vector
    assert trim(vector, 0.01).count_nonzero() == 1


def test_trimming_keeps_the_first_of_equal_entries() -> None:
    vector = torch.tensor([[1.0, -2.0, 2.0], [2.0, 3.0, -1.0]])
    assert trim(vector, 0.5).tolist() == [[0.0, -2.0, 2.0], [0.0, 3.0, 0.0]]
    coarse = torch.randn(100, 100, generator=torch.Generator().manual_seed(0)).bfloat16().float()
    assert trim(coarse, 0.3).count_nonzero() == 3000


def test_dropping_keeps_the_expectation_and_depends_on_seed_and_name_only() -> None:
    vector = torch.ones(200, 200)
    dropped = drop(vector, 0.25, "a", seed=1)
    assert set(dropped.unique().tolist()) == {0.0, 4.0}
    assert abs(float(dropped.mean()) - 1) < 0.05
    assert torch.equal(dropped, drop(vector, 0.25, "a", seed=1))
    assert not torch.equal(dropped, drop(vector, 0.25, "b", seed=1))
    assert not torch.equal(dropped, drop(vector, 0.25, "a", seed=2))


def test_the_elected_sign_counts_and_zeros_do_not() -> None:
    vectors = [torch.tensor([3.0, -1.0, 0.0, 2.0]), torch.tensor([-1.0, -3.0, 5.0, -2.0])]
    assert add_elected(vectors, [1.0, 1.0], averaged=True).tolist() == [3.0, -2.0, 5.0, 2.0]
    assert add_elected(vectors, [1.0, 3.0], averaged=True).tolist() == [3.0, -2.5, 5.0, -2.0]
    assert add_elected(vectors, [1.0, 1.0], averaged=False).tolist() == [3.0, -4.0, 5.0, 2.0]
    assert add(vectors, [1.0, 1.0], averaged=True).tolist() == [1.0, -2.0, 2.5, 0.0]


def test_negative_weights_subtract_and_elect_the_opposite_sign() -> None:
    vectors = [torch.tensor([3.0, -1.0, 0.0]), torch.tensor([1.0, -3.0, 5.0])]
    assert add_elected(vectors, [1.0, -1.0], averaged=False).tolist() == [3.0, 3.0, -5.0]
    base, parents = family()
    origin, first, second = (weights(model) for model in (base, *parents))
    merged = weights(transfuse.fuse(parents, base=base, merge="task-arithmetic", weights=(1, -1)).model)
    for name in origin:
        torch.testing.assert_close(merged[name], origin[name] + first[name] - second[name])


def test_the_arc_keeps_the_norm_and_ends_at_the_models() -> None:
    start, end = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    torch.testing.assert_close(interpolate_on_arc(start, end, 0.5), torch.full((2,), 0.5**0.5))
    torch.testing.assert_close(interpolate_on_arc(start, 2 * end, 1.0), 2 * end)
    torch.testing.assert_close(interpolate_on_arc(start, torch.zeros(2), 0.25), 0.75 * start)
    torch.testing.assert_close(interpolate_on_arc(start, -start, 0.25), 0.5 * start)


def test_every_expert_that_files_hold_alone_is_trimmed_and_turned_alone() -> None:
    """The first expert was tuned much further than the others, and still takes no share of their entries."""
    base = next(case for case in CASES if case.name == "MixtralForCausalLM").build().float()
    parents = [tuned(base, 1, 0.001), tuned(base, 2, 0.001)]
    name = "model.layers.0.mlp.experts.down_proj"
    origin = weights(base)[name]
    with torch.no_grad():
        for model in parents:
            values = model.get_parameter(name)
            values[0] = origin[0] + 100 * (values[0] - origin[0])
    first, second = (weights(model)[name] for model in parents)
    merged = transfuse.fuse(parents, base=base, merge="ties", density=0.3, weights=(1, 0)).model
    kept = (weights(merged)[name] != origin).flatten(1).sum(1)
    assert set(kept.tolist()) == {int(0.3 * origin[0].numel())}
    dropped = weights(transfuse.fuse(parents, base=base, merge="dare-linear", weights=(1, 0)).model)[name] != origin
    assert not torch.equal(dropped[0], dropped[1])
    turned = weights(transfuse.fuse(parents, merge="slerp").model)[name]
    arcs = torch.stack([interpolate_on_arc(*pair, 0.5) for pair in zip(first, second, strict=True)])
    torch.testing.assert_close(turned, arcs, atol=1e-9, rtol=1e-6)


def test_the_mean_of_whole_task_vectors_is_the_mean() -> None:
    base, parents = family()
    mean = weights(transfuse.fuse(parents, align="none").model)
    for options in ({"merge": "task-arithmetic", "weights": (0.5, 0.5)}, {"merge": "dare-linear", "density": (1,)}):
        merged = transfuse.fuse(parents, base=base, task_weights="mean", **options).model
        torch.testing.assert_close(weights(merged), mean, atol=1e-5, rtol=1e-4)


def test_task_vectors_are_added_and_scaled() -> None:
    base, parents = family()
    origin, first, second = (weights(model) for model in (base, *parents))
    merged = weights(transfuse.fuse(parents, base=base, merge="task-arithmetic", task_scale=0.5).model)
    for name in origin:
        expected = origin[name] + 0.5 * (first[name] - origin[name] + second[name] - origin[name])
        torch.testing.assert_close(merged[name], expected)


@pytest.mark.parametrize("options", [{"merge": name} for name in METHODS] + [{"merge": "slerp"}], ids=str)
def test_streamed_as_in_memory(options: dict[str, Any], tmp_path: Path) -> None:
    """The heads are tied to the embeddings, and one model is in several files."""
    base, parents = family(TIED)
    for name, model in zip(("base", "a", "b"), (base, *parents), strict=True):
        model.save_pretrained(tmp_path / name, max_shard_size="20KB" if name == "b" else "5GB")
    if options["merge"] != "slerp":
        options = options | {"base": tmp_path / "base"}
    options = options | {"weights": ((0.2, 0.8), (1, 0.4))}
    results = []
    for stream in (False, True):
        fusion = transfuse.fuse([tmp_path / "a", tmp_path / "b"], stream=stream, **options)
        assert fusion.record["shared_base"]["correlation"] > 0.9
        fusion.save(tmp_path / f"out-{stream}")
        results.append(load_file(tmp_path / f"out-{stream}" / "model.safetensors"))
    assert results[0].keys() == results[1].keys()
    assert all(torch.equal(results[1][name], values) for name, values in results[0].items())


@pytest.mark.parametrize("align", [None, "exact"])
def test_one_model_has_a_task_vector(align: str | None, tmp_path: Path) -> None:
    base, (parent, _) = family()
    options: dict[str, Any] = {} if align is None else {"align": align}
    fusion = transfuse.fuse([parent], base=base, merge="task-arithmetic", task_scale=0.5, **options)
    inputs = {
        name: values.float() if values.is_floating_point() else values
        for name, values in VIT.inputs(base.config).items()
    }
    plain = transfuse.fuse([base, parent], merge="mean", **options).model
    with torch.no_grad():
        torch.testing.assert_close(fusion.model(**inputs).logits, plain(**inputs).logits, atol=1e-3, rtol=1e-3)
    fusion.save(tmp_path / "out")
    assert [model["weight"] for model in fusion.record["models"]] == [1.0]
    with pytest.raises(ConfigError, match=r"^models: 1 model given; give two or more, .* or one with a base"):
        transfuse.fuse([parent], base=base, data=[], merge="learned")


def test_a_moved_fine_tune_is_brought_back_first() -> None:
    """A fine-tune whose hidden units were permuted has no task vector, until it is aligned."""
    base, parents = family()
    moved = copy.deepcopy(parents[1])
    order = torch.randperm(moved.config.intermediate_size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for block in moved.vit.layers:
            up, down = block.mlp.fc1, block.mlp.fc2
            up.weight.copy_(up.weight[order].clone())
            up.bias.copy_(up.bias[order].clone())
            down.weight.copy_(down.weight[:, order].clone())
    options = {"base": base, "merge": "ties"}
    with pytest.raises(ConfigError, match=r"^model 2 was not fine-tuned from the base "):
        transfuse.fuse([parents[0], moved], align="none", **options)
    back = transfuse.fuse([parents[0], moved], **options)
    assert back.options.align == "exact"
    inputs = VIT.inputs(base.config)
    plain = transfuse.fuse(parents, align="exact", **options)
    assert plain.options.align == "exact"
    with torch.no_grad():
        one, other = (
            fusion.model(**{k: v.float() if v.is_floating_point() else v for k, v in inputs.items()}).logits
            for fusion in (back, plain)
        )
    torch.testing.assert_close(one, other, atol=1e-3, rtol=1e-3)


def test_another_base_is_refused() -> None:
    _, parents = family()
    with pytest.raises(
        ConfigError, match=r"model 1 was not fine-tuned from the base .*, less than 0.7\), .*; give the model"
    ):
        transfuse.fuse(parents, base=VIT.build(5).float(), merge="ties")


@pytest.mark.parametrize("value", [0.0, 0.1])
def test_matrices_that_are_constant_in_the_base_tell_nothing(value: float) -> None:
    base, _ = family()
    torch.nn.init.constant_(base.vit.layers[0].mlp.fc2.weight, value)
    parents = [tuned(base, 1), tuned(base, 2)]
    fused = transfuse.fuse(parents, base=base, merge="ties").model
    assert fused.vit.layers[0].mlp.fc2.weight.std() > 0
    with pytest.raises(ConfigError, match="was not fine-tuned from the base"):
        transfuse.fuse([parents[0], VIT.build(5).float()], base=base, merge="ties", align="none")


def test_heads_that_began_apart_have_no_task_vector() -> None:
    case = next(case for case in CASES if case.name == "BertForMaskedLM")
    sizes = dict(case.sizes)
    build = RobertaForSequenceClassification
    torch.manual_seed(0)
    base = build(RobertaConfig(**sizes))
    torch.manual_seed(1)
    parents = [tuned(base, seed, 0.001) for seed in (1, 2)]
    parents[1].classifier.load_state_dict(build(RobertaConfig(**sizes)).classifier.state_dict())
    message = (
        r"^model 2: its head was not fine-tuned from that of the base .*; fuse all but the heads with --head anchor"
    )
    for align in ("none", "exact"):
        with pytest.raises(ConfigError, match=message):
            transfuse.fuse(parents, base=base, merge="ties", align=align)
    fused = transfuse.fuse(parents, base=base, merge="ties", head="anchor").model
    torch.testing.assert_close(fused.classifier.dense.weight, parents[0].classifier.dense.weight)


def test_depth_runs_from_the_embeddings_to_the_head() -> None:
    model = TIED.build()
    found = depths(unfused(declaration(model)).tensors())
    assert found["transformer.wte.weight"] == 0
    assert found["transformer.h.0.ln_1.weight"] == 0
    last = model.config.n_layer - 1
    assert found[f"transformer.h.{last}.ln_1.weight"] == 1
    assert found["transformer.ln_f.weight"] == 1
    assert tied_to(model)["lm_head.weight"] == "transformer.wte.weight"


def test_weights_change_over_the_depth() -> None:
    _, parents = family()
    merged = weights(
        transfuse.fuse(parents, weights=({"classifier": 0, "*": (1, 0)}, {"classifier": 1, "*": (0, 1)})).model
    )
    first, second = (weights(model) for model in parents)
    by_depth = depths(unfused(declaration(parents[0])).tensors())
    for name, values in merged.items():
        share = 1.0 if "classifier" in name else by_depth[name]
        torch.testing.assert_close(values, torch.lerp(first[name], second[name], share), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (({"attention": 1}, 1), "weights, item 1: no entry for"),
        (((0, 1), (0, 1)), "weights: all are zero for"),
    ],
)
def test_weights_that_miss_a_layer_are_refused(given: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        transfuse.fuse(family()[1], weights=given)
