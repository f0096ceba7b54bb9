"""What holds of a fusion whatever the family, the widths, heads and groups, the weights and the seeds."""

import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from cases import CASES, Case
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import transfuse
from transfuse.alignment.exact.groups import random_alignment
from transfuse.alignment.transform import transform_all
from transfuse.checkpoint.reading.load import load_model
from transfuse.network.layout import split_fused, unfused
from transfuse.network.model import with_tensors
from transfuse.network.symmetry import fold, symmetric

KINDS = ("ViTForImageClassification", "BertForMaskedLM", "GPT2LMHeadModel", "LlamaForCausalLM")
NAMED = {case.name: case for case in CASES}
SEEDS = st.integers(0, 2**16)
some = settings(
    max_examples=8, deadline=None, derandomize=True, database=None, phases=[Phase.generate],
    suppress_health_check=[HealthCheck.too_slow],
)  # fmt: skip


def blocks(head: int, channels: int, hidden: int, layers: int) -> dict[str, int]:
    return {"hidden_size": head * channels, "num_attention_heads": head, "intermediate_size": hidden,
            "num_hidden_layers": layers}  # fmt: skip


@st.composite
def shapes(draw: st.DrawFn, layers: int | None = None) -> tuple[Case, dict[str, Any]]:
    """A family, and sizes for it."""
    head, channels, hidden = (draw(st.integers(low, high)) for low, high in ((1, 4), (4, 8), (2, 40)))
    depth = draw(st.integers(1, 3)) if layers is None else layers
    kind = draw(st.sampled_from(KINDS))
    sizes: dict[str, Any] = blocks(head, channels, hidden, depth)
    if kind.startswith("GPT2"):
        sizes = {"n_embd": head * channels, "n_head": head, "n_inner": hidden, "n_layer": depth}
    if kind.startswith("Llama"):
        group = draw(st.integers(1, 3))
        own = {"num_attention_heads": head * group, "num_key_value_heads": head, "head_dim": 2 * (channels // 2)}
        sizes |= own | {"hidden_size": head * group * draw(st.integers(2, 4))}
    return NAMED[kind], sizes


def difference(case: Case, one: Any, other: Any) -> float:
    """Of what two models say, relative to the second."""
    found, due = (case.logits(model.double()) for model in (one, other))
    return float((found - due).abs().max() / due.abs().max())


def hidden_copy(case: Case, model: Any, seed: int) -> Any:
    """The same function in another basis: moved by a random element of its whole group."""
    spec = symmetric(unfused(case.spec(model)))
    folded = fold(spec, dict(split_fused(case.spec(model), model.state_dict())))
    return with_tensors(model, transform_all(spec, folded, random_alignment(spec, seed)))


@some
@given(shape=shapes(), seed=SEEDS, share=st.floats(0, 1))
def test_a_model_and_a_hidden_copy_of_it_are_one_function(shape: tuple, seed: int, share: float) -> None:
    case, sizes = shape
    model = case.build(seed, **sizes)
    fused = transfuse.fuse([hidden_copy(case, model, seed), model], weights=[share, 1 - share]).model
    assert difference(case, fused, model) < 1e-5


@some
@given(shape=shapes(), seed=SEEDS)
def test_an_exact_alignment_keeps_the_function_of_the_other(shape: tuple, seed: int) -> None:
    case, sizes = shape
    anchor, other = (case.build(seed + each, **sizes) for each in (0, 1))
    assert difference(case, transfuse.fuse([anchor, other], weights=[0, 1]).model, other) < 1e-6


@some
@given(shape=shapes(), seed=SEEDS, weights=st.lists(st.floats(1e-3, 1e3), min_size=2, max_size=4))
def test_the_average_of_identical_models_is_the_model(shape: tuple, seed: int, weights: list[float]) -> None:
    case, sizes = shape
    model = case.build(seed, **sizes)
    fused = transfuse.fuse([model] * len(weights), align="none", weights=weights).model.state_dict()
    for name, values in model.state_dict().items():
        torch.testing.assert_close(fused[name], values, atol=1e-12, rtol=1e-12)


@some
@given(seed=SEEDS, weights=st.lists(st.floats(1e-6, 1e6), min_size=2, max_size=4), scale=st.floats(1e-3, 1e3))
def test_only_the_ratio_of_weights_counts(seed: int, weights: list[float], scale: float) -> None:
    """And no number of the average lies outside those it was made of."""
    case = NAMED["LlamaForCausalLM"]
    models = [case.build(seed + each, num_hidden_layers=1) for each in range(len(weights))]
    one, other = (
        transfuse.fuse(models, align="none", weights=each).model.state_dict()
        for each in (weights, [scale * weight for weight in weights])
    )
    for name, values in one.items():
        parts = torch.stack([model.state_dict()[name] for model in models])
        torch.testing.assert_close(other[name], values, atol=1e-9, rtol=1e-9)
        assert bool((values >= parts.amin(0) - 1e-9).all() and (values <= parts.amax(0) + 1e-9).all())


@st.composite
def widths(draw: st.DrawFn) -> tuple[Case, dict[str, Any], dict[str, Any]]:
    """A family, and two widths of it that the flow can map."""
    case, ours = draw(shapes(layers=1))
    theirs = draw(shapes(layers=1).filter(lambda shape: shape[0] is case))[1]
    if "head_dim" in ours:  # heads that share keys, and rotary channels, are matched one to one
        bound = ("num_key_value_heads", "num_attention_heads", "head_dim")
        theirs |= {name: ours[name] for name in bound}
        theirs["hidden_size"] = ours["num_attention_heads"] * draw(st.integers(2, 4))
    return case, ours, theirs


@some
@given(pair=widths(), seed=SEEDS, plan=st.sampled_from(["soft", "hard", "uniform"]))
def test_the_flow_between_any_two_widths_gives_a_valid_checkpoint(pair: tuple, seed: int, plan: str) -> None:
    case, ours, theirs = pair
    anchor, other = case.build(seed, **ours).float(), case.build(seed + 1, **theirs).float()
    fusion = transfuse.fuse([anchor, other], align="flow", flow={"plan": plan})
    with tempfile.TemporaryDirectory() as folder:
        loaded = load_model(fusion.save(Path(folder) / "fused"))
    shape = {name: values.shape for name, values in anchor.state_dict().items()}
    assert {name: values.shape for name, values in loaded.state_dict().items()} == shape
    assert case.logits(loaded.double()).isfinite().all()


@pytest.mark.parametrize("name", ["ViTForImageClassification", "LlamaForCausalLM"])
@pytest.mark.parametrize("align", ["exact", "flow"])
@settings(some, max_examples=4)
@given(seed=SEEDS, value=st.sampled_from([0.0, 1.0, -3.0]), share=st.floats(0.1, 1))
def test_units_that_say_nothing_do_no_harm(name: str, align: str, seed: int, value: float, share: float) -> None:
    """Weights of some units are all alike, in one model or in both: units that are constant, or dead."""
    case = NAMED[name]
    models = [case.build(seed + each, num_hidden_layers=1) for each in range(2)]
    generator = torch.Generator().manual_seed(seed)
    for model in models[: 1 + seed % 2]:
        for values in model.parameters():
            rows = torch.rand(len(values), generator=generator) < share
            values.data[rows] = value
    fused = transfuse.fuse(models, align=align).model
    assert all(values.isfinite().all() for values in fused.state_dict().values())
    if align == "exact":
        assert difference(case, transfuse.fuse(models, weights=[0, 1]).model, models[1]) < 1e-5
