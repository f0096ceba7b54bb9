"""Fewer experts: copies of experts and idle ones are left out without a change; every family keeps its layout."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from cases import CASES, Case, InDouble
from comparisons import close
from torch import Tensor
from transformers import PreTrainedModel

from transfuse.base.batch import cast
from transfuse.base.progress import silent
from transfuse.base.timing import Stopwatch
from transfuse.config.make import make
from transfuse.config.shrink_options import ShrinkOptions
from transfuse.errors import ConfigError, SpecError
from transfuse.network.model import declaration, network
from transfuse.network.reconfigured import empty_like
from transfuse.network.sizes import Sizes, resized
from transfuse.network.target_sizes import target_sizes
from transfuse.shrinking.experts.choice import taken_over
from transfuse.shrinking.experts.layer import ExpertModules, expert_layers
from transfuse.shrinking.experts.model import fewer_experts
from transfuse.shrinking.possible import possible_sizes
from transfuse.shrinking.ratio import parameter_count
from transfuse.shrinking.shrink import shrunk_model

CPU = torch.device("cpu")
QUICK = make(ShrinkOptions, {"experts": 1, "effort": "quick"})
by_name = {case.name: case for case in CASES}
FAMILIES = [
    by_name[name]
    for name in (
        "MixtralForCausalLM", "Qwen3MoeForCausalLM", "OlmoeForCausalLM", "GptOssForCausalLM", "Qwen3NextForCausalLM",
        "Qwen3_5MoeForCausalLM",
    )
]  # fmt: skip
MIXTRAL, GPT_OSS = by_name["MixtralForCausalLM"], by_name["GptOssForCausalLM"]


def batches(case: Case, model: PreTrainedModel, count: int = 20) -> list[dict[str, Tensor]]:
    return [cast(case.inputs(model.config, seed), torch.float64) for seed in range(count)]


def shrunk(case: Case, large: PreTrainedModel, experts: int, **others: int) -> PreTrainedModel:
    sizes = target_sizes(large.config, Sizes(experts=experts, **others))
    with InDouble():
        return shrunk_model(network(large, CPU), sizes, batches(case, large), QUICK, silent, Stopwatch())[0]


def with_experts(model: PreTrainedModel, change: Callable[[ExpertModules], None]) -> PreTrainedModel:
    for layer in expert_layers(declaration(model)):
        change(ExpertModules.of(model, layer))
    return model


def hidden_copy(modules: ExpertModules, source: int, target: int) -> None:
    """Write an expert in the place of another, with its hidden units permuted and scaled."""
    experts = modules.read()
    generator = torch.Generator().manual_seed(target)
    units = len(experts[0].down)
    copy = experts[source].units(torch.randperm(units, generator=generator))
    scale = (0.5 + torch.rand(units, generator=generator, dtype=torch.float64)).unsqueeze(1)
    up = copy.up.clone()
    up[:, 1] *= scale
    experts[target] = type(copy)(up, copy.up_bias, copy.down / scale, copy.bias)
    modules.write(experts, modules.routing())


def test_permuted_copies_of_one_expert_become_one() -> None:
    large = MIXTRAL.build(1, num_local_experts=4)
    with_experts(large, lambda modules: [hidden_copy(modules, 0, i) for i in (1, 2, 3)])  # type: ignore[arg-type,return-value]
    small = shrunk(MIXTRAL, large, 1)
    assert (small.config.num_local_experts, small.config.num_experts_per_tok) == (1, 1)
    assert close(MIXTRAL.logits(small), MIXTRAL.logits(large), 1e-6)


def test_copies_that_share_their_gate_come_back() -> None:
    """All experts are active, and two copies with the same rows of the router share the gate of one."""
    large = MIXTRAL.build(1, num_local_experts=6, num_experts_per_tok=6)

    def twice(modules: ExpertModules) -> None:
        for index in range(3):
            hidden_copy(modules, index, 5 - index)
        rows = modules.routing()["weight"][:3]
        modules.write(modules.read(), {"weight": torch.cat([rows, rows.flip(0)])})

    small = shrunk(MIXTRAL, with_experts(large, twice), 3)
    assert close(MIXTRAL.logits(small), MIXTRAL.logits(large), 1e-6)


def test_idle_experts_are_left_out() -> None:
    """The bias of the router keeps them from being chosen. Weights of gpt-oss are transposed and interleaved."""
    large = GPT_OSS.build(1, num_local_experts=5, num_experts_per_tok=2)

    def idle(modules: ExpertModules) -> None:
        routing = modules.routing()
        routing["bias"] = torch.tensor([0.0, -99, 0, -99, 0], dtype=torch.float64)
        modules.write(modules.read(), routing)

    small = shrunk(GPT_OSS, with_experts(large, idle), 3)
    assert close(GPT_OSS.logits(small), GPT_OSS.logits(large), 1e-6)


@pytest.mark.parametrize("case", FAMILIES, ids=lambda case: case.name)
def test_every_family_computes_and_stores_what_its_module_does(case: Case) -> None:
    model = case.build(1)
    layer = expert_layers(declaration(model))[0]
    modules = ExpertModules.of(model, layer)
    x = torch.randn(30, model.config.hidden_size, dtype=torch.float64)
    scores, chosen = modules.route(modules.routing(), x)
    found = modules.mixture(modules.read(), modules.gates(modules.routing(), x), x)
    assert torch.allclose(found, modules.experts(x, chosen, scores))
    stored = {name: values.clone() for name, values in model.state_dict().items()}
    modules.write(modules.read(), modules.routing())
    assert all(torch.equal(values, stored[name]) for name, values in model.state_dict().items())


@pytest.mark.parametrize("case", FAMILIES, ids=lambda case: case.name)
def test_every_family_has_fewer_experts(case: Case) -> None:
    large = case.build(1)
    config = resized(large.config, Sizes(experts=1))
    part = batches(case, large)
    small = empty_like(large, config)
    facts = fewer_experts(large, small, (part[:15], part[15:]), silent)
    assert config.num_experts_per_tok == 1
    assert [layer.count for layer in expert_layers(declaration(small))] == [1] * len(facts)
    assert all(fact["error"] < 1 for fact in facts.values())
    own = ("mlp.experts.", "mlp.gate.", "mlp.router.")
    others = {name: values for name, values in small.state_dict().items() if not any(word in name for word in own)}
    assert all(torch.equal(values, large.state_dict()[name]) for name, values in others.items())


def test_other_sizes_shrink_too() -> None:
    large = MIXTRAL.build(1)
    small = shrunk(MIXTRAL, large, 2, hidden_size=16, layers=1)
    assert (small.config.hidden_size, small.config.num_hidden_layers, small.config.num_local_experts) == (16, 1, 2)
    expected = MIXTRAL.logits(large)
    assert (MIXTRAL.logits(small) - expected).square().mean() < 1.5 * expected.var()


def test_tokens_of_removed_experts_are_taken_over() -> None:
    before = torch.tensor([[0.6, 0.0, 0.4], [0.0, 0.3, 0.7], [0.5, 0.5, 0.0]])
    after = torch.tensor([[1.0, 0.0], [0.1, 0.9], [0.5, 0.5]])  # of experts 0 and 1, without 2
    assert taken_over(before, after, [0, 1], 3) == [[2], [2]]
    assert taken_over(before, before[:, :2], [0, 1], 3) == [[], []]


@pytest.mark.parametrize(
    ("experts", "words"),
    [
        (4, ["experts", "4 is more than the 3"]),
        (3, ["has these sizes already"]),
        (0.9, ["0.9 of 3 experts", "all of them"]),
    ],
    ids=str,
)
def test_impossible_counts_are_refused(experts: float, words: list[str]) -> None:
    model = MIXTRAL.build()
    with pytest.raises(ConfigError) as caught:
        possible_sizes(model, model, make(ShrinkOptions, {"experts": experts}))
    assert [word for word in words if word not in str(caught.value)] == []


def test_a_model_whose_layers_are_all_dense_is_refused() -> None:
    model = by_name["Qwen3MoeForCausalLM"].build(mlp_only_layers=[0, 1])
    with pytest.raises(SpecError, match="has no experts that shrink knows"):
        possible_sizes(model, model, make(ShrinkOptions, {"experts": 1}))


@pytest.mark.parametrize("ratio", [0.75, 0.5])
def test_a_share_of_the_parameters(ratio: float) -> None:
    model = MIXTRAL.build(num_local_experts=8)
    ((sizes,),) = possible_sizes(model, model, make(ShrinkOptions, {"ratio": ratio}))
    assert sizes.experts is not None
    counts = [parameter_count(type(model), resized(model.config, Sizes(experts=sizes.experts + i))) for i in (0, 1)]
    assert counts[0] <= ratio * model.num_parameters() < counts[1]
    with pytest.raises(ConfigError, match="even one expert"):
        possible_sizes(model, model, make(ShrinkOptions, {"ratio": 0.05}))


@pytest.mark.parametrize(("given", "count"), [(0.5, 4), (0.75, 6), (0.07, 1), (1, 1), (3, 3)])
def test_a_share_and_a_count(given: Any, count: int) -> None:
    assert make(ShrinkOptions, {"experts": given}).expert_count(8) == count
