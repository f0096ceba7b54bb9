"""The flow's options in combination, and each alone: nothing crashes, and an option changes what it should."""

import itertools
import random
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import pytest
import torch
from golden.released import align_released
from golden.route import WidthError
from tiny_pairs import PAIRS, changed, fused, named, vit, with_changes

from transfuse.alignment.flow.method import align_flow
from transfuse.alignment.interface import Method
from transfuse.config.flow_options import FlowOptions
from transfuse.errors import SpecError

KEPT = ("embeddings", "attention", "norms", "ffn", "biases", "head")
METHODS: dict[str, Method] = {"released": align_released, "paper": align_flow}
AXES: dict[str, tuple[Any, ...]] = {
    "method": ("released", "paper"),
    "pair": ("equal", "deep", "narrow_to_wide", "wide_to_narrow"),
    "evidence": ("activations", "weights"),
    "policy": ("mean", "scalar", "matrix", "skip", "branch", "identity"),
    "queries": ("separate", "shared", "joint"),
    "plan": ("soft", "hard", "widening"),
    "cost": ("euclidean", "squared", "cosine"),
    "scale": ("max", "mean", "median", "log", "none"),
    "tokens": ("window-2", "all", "class"),
    "transform": ("standardize", "center", "normalize", "raw"),
    "max_loss": (None, 2.5),
    **{f"keep {part}": (False, True) for part in KEPT},
}
TOKEN = "vit.embeddings.cls_token"  # has one sample a unit, so that many hard plans cost the same


def options(row: Mapping[str, Any]) -> FlowOptions:
    keep = tuple(part for part in KEPT if row[f"keep {part}"])
    others = ("method", "pair", "evidence", *(f"keep {part}" for part in KEPT))
    plain = {name: value for name, value in row.items() if name not in others}
    return FlowOptions(keep=keep, regularization=0.3, **plain)


def impossible(row: Mapping[str, Any]) -> bool:
    """Tell the options that different widths exclude: the identity; as released, what is kept or left without a map."""
    if row["pair"] in ("equal", "deep"):
        return False
    if row["method"] == "paper":
        return bool(row["policy"] == "identity")
    return any(row[f"keep {part}"] for part in KEPT if part != "biases")


def covering() -> Iterator[dict[str, Any]]:
    """Yield rows in which every two values of two options meet: each the best of some at random."""
    chance = random.Random(0)
    cells = [(name, value) for name, values in AXES.items() for value in values]
    missing = {frozenset(two) for two in itertools.combinations(cells, 2) if two[0][0] != two[1][0]}
    while missing:
        wanted = dict(min(missing, key=lambda two: sorted(map(str, two))))
        rows = [{name: chance.choice(values) for name, values in AXES.items()} | wanted for _ in range(300)]
        row = max((row for row in rows if not impossible(row)), key=lambda row: len(_pairs(row) & missing))
        missing -= _pairs(row)
        yield row


def _pairs(row: Mapping[str, Any]) -> set[frozenset[tuple[str, Any]]]:
    return {frozenset(two) for two in itertools.combinations(row.items(), 2)}


ROWS = list(covering())


@pytest.mark.parametrize("row", ROWS, ids=map(str, range(len(ROWS))))
def test_every_two_options_go_together(row: dict[str, Any]) -> None:
    found = fused(options(row), row["pair"], row["evidence"], METHODS[row["method"]])
    anchor = vit(PAIRS[row["pair"]][0], 0).tensors
    assert {name: values.shape for name, values in found.items()} == {name: each.shape for name, each in anchor.items()}
    assert [name for name, values in found.items() if not values.isfinite().all()] == []


@pytest.mark.parametrize("policy", AXES["policy"])
@pytest.mark.parametrize("tokens", AXES["tokens"])
def test_every_policy_goes_with_a_seventh_block(policy: Any, tokens: str) -> None:
    paper = FlowOptions(plan="hard", policy=policy, tokens=tokens)
    assert all(values.isfinite().all() for values in fused(paper, "deep", method=align_released).values())


def test_what_different_widths_do_not_go_with() -> None:
    with pytest.raises(SpecError, match=r"policy identity needs models of equal width.*choose another policy"):
        fused(FlowOptions(policy="identity"), "wide_to_narrow")
    for part in ("embeddings", "attention", "norms", "ffn", "head"):
        for pair in ("wide_to_narrow", "narrow_to_wide"):
            with pytest.raises(WidthError, match=rf"keep {part}: no map is applied to .* units"):
                fused(FlowOptions(keep=(part,)), pair, method=align_released)
    fused(FlowOptions(keep=("biases",)), "wide_to_narrow", method=align_released)


@pytest.mark.parametrize("part", KEPT)
def test_what_is_kept_is_the_anchors_and_nothing_else_changes(part: Any) -> None:
    anchor, before, after = vit("narrow", 0), fused(FlowOptions()), fused(FlowOptions(keep=(part,)))
    names = anchor.spec.part(part)
    assert names
    assert all(torch.equal(after[name], anchor.tensors[name]) for name in names)
    assert changed(before, after) <= names


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_what_activations_are_taken_of_does_not_matter_to_weights(method: Method) -> None:
    fuse = partial(fused, method=method)
    plain = FlowOptions()
    for change in ({"tokens": "window-2"}, {"transform": "center"}, {"max_loss": 2.5}):
        other = with_changes(plain, **change)
        assert changed(fuse(plain), fuse(other))
        assert not changed(fuse(plain, evidence="weights"), fuse(other, evidence="weights"))
    weighed = [FlowOptions(policy="matrix", tokens=tokens) for tokens in ("all", "class")]
    assert changed(*(fuse(each, evidence="weights") for each in weighed)), "weights of a junction are activations"


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_what_each_option_changes(method: Method) -> None:
    fuse = partial(fused, method=method)
    plain = FlowOptions(regularization=0.1)
    before = fuse(plain)
    queries = named(before, "q_proj", "k_proj")
    for kind in ("shared", "joint"):
        assert changed(before, fuse(with_changes(plain, queries=kind))) == queries, "their maps end in them"
    embeddings = named(before, "embeddings")
    for policy in ("scalar", "matrix", "skip", "branch", "identity"):
        after = changed(before, fuse(with_changes(plain, policy=policy)))
        assert after
        assert not after & embeddings, "they come before the first junction"
    for change in ({"regularization": 0.3}, {"cost": "squared"}, {"scale": "none"}, {"plan": "hard"}):
        assert changed(before, fuse(with_changes(plain, **change))) >= before.keys() - {TOKEN, "classifier.bias"}
    hard = fuse(with_changes(plain, plan="hard"))
    assert not changed(hard, fuse(with_changes(plain, plan="hard", regularization=0.3)))
    scaled = fuse(with_changes(plain, plan="hard", scale="mean"))
    assert changed(hard, scaled) <= {TOKEN}, "a plan of least cost is one in any unit"
