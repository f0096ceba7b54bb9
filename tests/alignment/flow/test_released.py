"""The authors' code as `golden` reproduces it, kept parts and all, on tiny ViTs. test_golden has whole models."""

from functools import partial
from typing import Any

import pytest
import tiny_pairs
import torch
from golden.junctions import released_norms
from golden.released import align_released, released_filters
from golden.route import lead_around
from tiny_pairs import changed, images, named, vit, with_changes
from torch import Tensor

from transfuse.alignment.flow.activation_norms import junction_hook_points
from transfuse.alignment.spec_for import flow_spec
from transfuse.config.flow_options import FlowOptions

ATTENTION, FFN = ("q_proj", "k_proj", "v_proj", "o_proj"), ("fc1", "fc2")
align, fused = partial(tiny_pairs.align, method=align_released), partial(tiny_pairs.fused, method=align_released)


@pytest.mark.parametrize("evidence", ["activations", "weights"])
@pytest.mark.parametrize("queries", ["separate", "shared"])
@pytest.mark.parametrize("policy", ["mean", "skip", "branch", "identity"])
def test_the_package_does_the_same_where_the_paper_and_its_code_agree(evidence: str, queries: Any, policy: Any) -> None:
    """Hard plans at equal widths, of spaces with more than one sample, in front of the last block's class token."""
    options = FlowOptions(plan="hard", queries=queries, policy=policy)
    before, after = fused(options, evidence=evidence), tiny_pairs.fused(options, evidence=evidence)
    last = named(before, "layers.1.", "vit.layernorm", "classifier") if evidence == "activations" else set()
    assert changed(before, after) <= last | {"vit.embeddings.cls_token"}


def test_released_embeddings_that_are_kept_leave_the_first_block_as_the_source_has_it() -> None:
    """No map enters it: its norm and what it reads stay; its first junction passes the branch's map on."""
    anchor, source = vit("narrow", 0), vit("narrow", 1)
    for policy in ("mean", "skip", "identity", "scalar"):
        aligned = align(FlowOptions(keep=("embeddings",), policy=policy))
        for name in named(anchor.tensors, "embeddings"):
            assert torch.equal(aligned.carried[name], anchor.tensors[name])
        norm, query = (f"vit.layers.0.{which}.weight" for which in ("layernorm_before", "attention.q_proj"))
        assert torch.equal(aligned.carried[norm], source.tensors[norm])
        maps = {name: match.map for name, match in aligned.matches.items()}
        pushed = maps["vit.layers.0.attention.q_proj"].push(source.tensors[query].T).T
        torch.testing.assert_close(aligned.carried[query], pushed)
        torch.testing.assert_close(maps["0.middle"].plan(), maps["0.attention"].plan())
        assert not {"patch", "position", "class_token", "tokens"} & maps.keys()


def test_a_released_head_that_is_kept_stops_the_last_maps() -> None:
    anchor, source = vit("narrow", 0), vit("narrow", 1)
    before, after = (fused(FlowOptions(keep=keep)) for keep in ((), ("head",)))
    last = named(before, "classifier", "layers.1.mlp.fc2", "vit.layernorm")
    assert changed(before, after) <= last
    for name in named(last, "vit.layernorm", "fc2.bias"):
        torch.testing.assert_close(after[name], (anchor.tensors[name] + source.tensors[name]) / 2)
    assert all(torch.equal(after[name], anchor.tensors[name]) for name in named(last, "classifier"))


@pytest.mark.parametrize(("part", "layers"), [("attention", ATTENTION), ("ffn", FFN)])
def test_released_layers_that_are_kept_are_the_sources(part: Any, layers: tuple[str, ...]) -> None:
    """They pass on the map that they read: with the identity everywhere else, nothing else changes."""
    source = vit("narrow", 1).tensors
    plain = FlowOptions(policy="identity")
    before, after = fused(plain), fused(with_changes(plain, keep=(part,)))
    assert all(torch.equal(after[name], source[name]) for name in named(source, *layers))
    assert changed(before, after) == named(source, *layers)
    maps = align(FlowOptions(keep=(part,))).matches
    one, two = {"attention": ("tokens", "0.middle"), "ffn": ("0.middle", "0.out")}[part]
    torch.testing.assert_close(maps[one].map.plan(), maps[two].map.plan())


def test_released_norms_that_are_kept_are_the_sources_behind_attention() -> None:
    source = vit("narrow", 1).tensors
    before, after = (fused(FlowOptions(keep=keep)) for keep in ((), ("norms",)))
    for name in named(source, "layernorm_before", "layernorm_after"):
        assert torch.equal(after[name], source[name.replace("before", "after")])
    assert changed(before, after) == named(source, "layernorm_before", "layernorm_after")


def test_a_released_stop_behind_kept_layers_depends_on_the_policy() -> None:
    """Head and feed-forward layers kept, W_O's map stops too: what is left is the skip's, or nothing."""
    spec = flow_spec(vit("narrow", 0).spec, FlowOptions())
    for policy, still in (("branch", {"1.middle", "1.out"}), ("skip", set()), ("mean", set())):
        way = lead_around(FlowOptions(keep=("ffn", "head"), policy=policy), spec)
        assert way.still == still
        assert way.withheld == {"1.attention"}
    way = lead_around(FlowOptions(keep=("embeddings", "attention"), policy="skip"), spec)
    assert {"0.middle", "0.out", "1.out"} <= way.still


def test_a_released_plan_is_soft_where_a_layer_writes_more_than_it_reads() -> None:
    """By the paper it is soft where the anchor is wider than the source."""
    aligned = align(FlowOptions(plan="widening", queries="joint"))
    soft = {name for name, match in aligned.matches.items() if match.map.support() > 1.5}
    written = {name for name in soft if "middle" not in name and "out" not in name and name not in ("embed", "tokens")}
    assert written == {name for name in aligned.matches if "hidden" in name or "joint" in name}


def test_released_weights_of_junctions_in_the_seventh_block() -> None:
    """The FFN's is of the class token, all others are of every token of the filter; the skip's is a sum."""
    anchor = vit("deep", 0)
    spec, paper = flow_spec(anchor.spec, FlowOptions()), FlowOptions(tokens="window-2")
    select = released_filters(paper, spec, class_only=("fc2",))
    found = released_norms(spec, anchor.model, images(), select, "standardize")
    shown = {}
    block = anchor.model.vit.layers[6]
    handles = [
        module.register_forward_hook(lambda module, inputs, output, name=name: shown.update({name: output}))
        for name, module in (("attention", block.attention.o_proj), ("mlp", block.mlp.fc2))
    ]
    with torch.no_grad():
        inputs = anchor.model(images()[0]["pixel_values"], output_hidden_states=True).hidden_states[6]
    for handle in handles:
        handle.remove()
    tokens = [0, 6, 7, 10, 11]  # the class token, and patches 5, 6, 9, 10 of 4 x 4

    def standardised(values: Tensor) -> Tensor:
        rows = values.flatten(0, -2)
        return (rows - rows.mean(0)) / rows.std(0)

    skip, branch = (standardised(values[:, tokens]) for values in (inputs, shown["attention"]))
    expected = {
        "5.out": skip, "6.attention": branch, "6.middle": skip + branch, "6.mlp": standardised(shown["mlp"][:, :1]),
    }  # fmt: skip
    assert expected.keys() <= junction_hook_points(spec).keys()
    for name, values in expected.items():
        torch.testing.assert_close(found[name].float(), values.abs().mean(0), rtol=1e-3, atol=1e-5)
    raw = released_norms(spec, anchor.model, images(), select, "raw")
    torch.testing.assert_close(raw["5.out"].float(), inputs[:, tokens].flatten(0, 1).abs().mean(0))


def test_released_the_seventh_block_is_seen_by_all_tokens_without_a_filter() -> None:
    """A window over all patches filters nothing, but lets the class token alone speak for that block."""
    everything, whole = (fused(FlowOptions(tokens=tokens), "deep") for tokens in ("all", "window-4"))
    seen = {name.rpartition(".")[0].removeprefix("vit.layers.6.") for name in changed(everything, whole)}
    assert seen - {"classifier"} == {"attention.o_proj", "layernorm_after", "mlp.fc1", "mlp.fc2", "vit.layernorm"}
