"""The transport-map flow on networks whose right answer is known."""

import pytest
import torch
from cases import CASES

from transfuse.alignment.exact.groups import random_element
from transfuse.alignment.flow.heads import cross_head
from transfuse.alignment.interface import AlignContext
from transfuse.alignment.methods import ALIGNMENT_METHODS
from transfuse.alignment.transform import transform_all
from transfuse.config.flow_options import FlowOptions
from transfuse.errors import ConfigError, SpecError
from transfuse.merging.mean import mean
from transfuse.network.model import network
from transfuse.network.symmetry import symmetric

VIT = CASES[0]
CPU = torch.device("cpu")


def pair(seeds=(1, 2), **changes):
    """Anchor and source."""
    return network(VIT.build(seeds[0]), CPU), network(VIT.build(seeds[1], **changes), CPU)


def batches():
    return [
        {name: values.double() for name, values in VIT.inputs(VIT.build().config, seed).items()} for seed in range(30)
    ]


@pytest.mark.parametrize("evidence", ["activations", "weights"])
def test_hard_flow_recovers_a_permuted_copy(evidence):
    """Stream and hidden units permuted: the hard flow finds them back, layer by layer."""
    source = VIT.build(1)
    spec = symmetric(VIT.spec(source))
    generator = torch.Generator().manual_seed(5)
    maps = {}
    for name, space in spec.spaces().items():
        if name.endswith("hidden"):
            maps[name] = random_element(space, generator)
    copy = VIT.build(1)
    copy.load_state_dict(transform_all(spec, source.state_dict(), maps))
    anchor, other = network(copy, CPU), network(source, CPU)
    aligned = ALIGNMENT_METHODS["flow"](anchor, other, AlignContext(evidence, batches(), FlowOptions(plan="hard")))
    for name, values in anchor.tensors.items():
        torch.testing.assert_close(aligned.carried[name], values)
    assert not torch.allclose(
        other.tensors["vit.layers.0.mlp.fc1.weight"], anchor.tensors["vit.layers.0.mlp.fc1.weight"]
    )


def test_every_space_of_the_paper_gets_a_map():
    anchor, source = pair()
    aligned = ALIGNMENT_METHODS["flow"](anchor, source, AlignContext("weights"))
    spec = cross_head(source.spec)
    assert aligned.matches.keys() == spec.spaces().keys()
    assert {"vit.layers.0.attention.q_proj", "vit.layers.0.attention.k_proj"} <= aligned.matches.keys()
    assert "0.head" not in aligned.matches
    assert all(0 <= match.cost <= 1 for match in aligned.matches.values())


def test_a_junction_carries_the_mean_of_its_maps():
    anchor, source = pair()
    found = ALIGNMENT_METHODS["flow"](anchor, source, AlignContext("weights")).matches
    expected = (found["tokens"].map.forward + found["0.attention"].map.forward) / 2
    torch.testing.assert_close(found["0.middle"].map.forward, expected)


@pytest.mark.parametrize("plan", ["soft", "hard"])
def test_different_widths_come_out_in_the_anchors_shape(plan):
    anchor, source = pair(hidden_size=48, intermediate_size=50, num_attention_heads=4)
    for evidence in ("activations", "weights"):
        aligned = ALIGNMENT_METHODS["flow"](anchor, source, AlignContext(evidence, batches(), FlowOptions(plan=plan)))
        assert {name: values.shape for name, values in aligned.carried.items()} == {
            name: values.shape for name, values in anchor.tensors.items()
        }
        merged = mean([aligned.anchor, aligned.carried], [0.5, 0.5])
        assert torch.isfinite(VIT.logits(VIT.build(), merged)).all()


def test_uniform_plan_is_a_control_that_knows_nothing():
    anchor, source = pair()
    aligned = ALIGNMENT_METHODS["flow"](anchor, source, AlignContext("weights", flow=FlowOptions(plan="uniform")))
    weight = aligned.carried["vit.layers.0.mlp.fc1.weight"]
    torch.testing.assert_close(weight, weight.mean().expand_as(weight))


def test_what_flow_and_exact_refuse():
    anchor, source = pair()
    with pytest.raises(ConfigError, match="choose one"):
        ALIGNMENT_METHODS["flow"](anchor, source, AlignContext("both", batches()))
    for method in ("exact", "none"):
        with pytest.raises(SpecError, match="equal shapes"):
            ALIGNMENT_METHODS[method](*pair(hidden_size=48), AlignContext("weights"))


@pytest.mark.parametrize("evidence", ["activations", "weights"])
@pytest.mark.parametrize("options", [FlowOptions(plan="hard", queries=name) for name in ("shared", "joint")], ids=str)
def test_queries_and_keys_of_one_map(options, evidence):
    """A copy of itself is found back; between strangers Q and K move by one map."""
    anchor, source = pair((1, 1))
    found = ALIGNMENT_METHODS["flow"](anchor, source, AlignContext(evidence, batches(), options))
    for name, values in anchor.tensors.items():
        torch.testing.assert_close(found.carried[name], values)
    spaces = ALIGNMENT_METHODS["flow"](*pair(), AlignContext(evidence, batches(), options)).matches
    sizes = {"shared": 24, "joint": 48}
    assert spaces[f"0.qk.{options.queries}"].map.plan().shape[-1] == sizes[options.queries]
    assert "vit.layers.0.attention.k_proj" not in spaces


def test_a_joint_map_mixes_queries_with_keys():
    """The stacked tensor, carried by the stacked map, cut in two again."""
    anchor, source = pair()
    found = ALIGNMENT_METHODS["flow"](anchor, source, AlignContext("weights", flow=FlowOptions(queries="joint")))
    names = [f"vit.layers.0.attention.{which}_proj.weight" for which in "qk"]
    stream, joint = (found.matches[name].map for name in ("tokens", "0.qk.joint"))
    stacked = torch.cat([source.tensors[name] for name in names]) @ stream.backward.double()
    expected = (stacked.T @ joint.forward.double()).T.chunk(2)
    for name, values in zip(names, expected, strict=True):
        torch.testing.assert_close(found.carried[name], values)


def test_a_buffer_of_the_head_is_kept():
    bart = next(case for case in CASES if case.name == "BartForConditionalGeneration")
    anchor, source = (network(bart.build(seed), CPU) for seed in (1, 2))
    anchor.tensors["final_logits_bias"].add_(1)
    found = ALIGNMENT_METHODS["flow"](anchor, source, AlignContext("weights", flow=FlowOptions(keep=("head",))))
    assert torch.equal(found.carried["final_logits_bias"], anchor.tensors["final_logits_bias"])


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        (
            "GPT2LMHeadModel",
            FlowOptions(keep=("head",)),
            "flow.keep: head: this model's head is its embeddings; write emb",
        ),
        (
            "LlamaForCausalLM",
            FlowOptions(keep=("norms", "biases")),
            "flow.keep: biases: this model has none; leave it out",
        ),
        ("LlamaForCausalLM", FlowOptions(queries="shared"), "flow.queries: shared: this model's heads are matched"),
        ("LlamaForCausalLM", FlowOptions(queries="joint"), "flow.queries: joint"),
        ("LlamaForCausalLM", FlowOptions(heads="aware"), "flow.heads: aware"),
    ],
    ids=str,
)
def test_options_without_an_effect_are_refused(name, options, words):
    case = next(case for case in CASES if case.name == name)
    anchor, source = (network(case.build(seed), CPU) for seed in (1, 2))
    with pytest.raises(ConfigError, match=words):
        ALIGNMENT_METHODS["flow"](anchor, source, AlignContext("weights", flow=options))


@pytest.mark.parametrize("heads", ["crossed", "aware"])
def test_head_aware_plans_do_not_leave_their_head(heads):
    anchor, source = pair()
    plan = ALIGNMENT_METHODS["flow"](anchor, source, AlignContext("weights", flow=FlowOptions(heads=heads))).matches[
        "vit.layers.0.attention.v_proj"
    ].map.plan()  # fmt: skip
    mass = plan.unflatten(1, (3, 8)).unflatten(0, (3, 8)).sum((1, 3))
    assert ((mass > 1e-9).sum(1) == (1 if heads == "aware" else 3)).all()
