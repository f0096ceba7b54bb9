"""The flow's options in combination, and each alone: nothing crashes, and an option changes what it should."""

import itertools
import random
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from tiny_pairs import PAIRS, changed, fused, named, vit

from transfuse.config.literals import FlowOptions
from transfuse.errors import ConfigError, SpecError

KEPT = ("embeddings", "attention", "norms", "ffn", "biases", "head")
AXES: dict[str, tuple[Any, ...]] = {
    "rules": ("released", "corrected"),
    "pair": ("equal", "deep", "narrow_to_wide", "wide_to_narrow"),
    "evidence": ("activations", "weights"),
    "policy": ("mean", "scalar", "matrix", "skip", "branch", "identity"),
    "queries": ("separate", "shared", "joint"),
    "plan": ("soft", "hard", "widening"),
    "cost": ("euclidean", "squared", "cosine"),
    "scale": ("max", "mean", "median", "log", "none"),
    "tokens": ("window-2", "all", "class"),
    "transform": ("standardise", "centre", "normalise", "raw"),
    "max_loss": (None, 2.5),
    **{f"keep {part}": (False, True) for part in KEPT},
}
TOKEN = "vit.embeddings.cls_token"  # has one sample a unit, so that many hard plans cost the same


def options(row: Mapping[str, Any]) -> FlowOptions:
    keep = tuple(part for part in KEPT if row[f"keep {part}"])
    plain = {name: row[name] for name in AXES if name not in ("pair", "evidence") and not name.startswith("keep")}
    return FlowOptions(keep=keep, regularization=0.3, **plain)


def impossible(row: Mapping[str, Any]) -> bool:
    """Tell the options that different widths exclude: the identity; as released, what is kept or left without a map."""
    if row["pair"] in ("equal", "deep"):
        return False
    if row["rules"] == "corrected":
        return bool(row["policy"] == "identity")
    return any(row[f"keep {part}"] for part in KEPT if part != "biases")


def covering() -> Iterator[dict[str, Any]]:
    """Yield rows in which every two values of two options meet: each the best of some at random."""
    chance = random.Random(0)
    cells = [(name, value) for name, values in AXES.items() for value in values]
    missing = {frozenset(two) for two in itertools.combinations(cells, 2) if two[0][0] != two[1][0]}
    while missing:
        wanted = dict(min(missing, key=lambda two: sorted(map(str, two))))
        rows = [{name: chance.choice(values) for name, values in AXES.items()} | wanted for _ in range(60)]
        row = max((row for row in rows if not impossible(row)), key=lambda row: len(_pairs(row) & missing))
        missing -= _pairs(row)
        yield row


def _pairs(row: Mapping[str, Any]) -> set[frozenset[tuple[str, Any]]]:
    return {frozenset(two) for two in itertools.combinations(row.items(), 2)}


ROWS = list(covering())


@pytest.mark.parametrize("row", ROWS, ids=map(str, range(len(ROWS))))
def test_every_two_options_go_together(row: dict[str, Any]) -> None:
    found = fused(options(row), row["pair"], row["evidence"])
    anchor = vit(PAIRS[row["pair"]][0], 0).tensors
    assert {name: values.shape for name, values in found.items()} == {name: each.shape for name, each in anchor.items()}
    assert [name for name, values in found.items() if not values.isfinite().all()] == []


@pytest.mark.parametrize("policy", AXES["policy"])
@pytest.mark.parametrize("tokens", AXES["tokens"])
def test_every_policy_goes_with_a_seventh_block(policy: Any, tokens: str) -> None:
    paper = FlowOptions("hard", policy=policy, tokens=tokens, rules="released")
    assert all(values.isfinite().all() for values in fused(paper, "deep").values())


def test_what_different_widths_do_not_go_with() -> None:
    with pytest.raises(SpecError, match=r"identity policy needs equal widths.*choose another policy"):
        fused(FlowOptions(policy="identity"), "wide_to_narrow")
    for part in ("embeddings", "attention", "norms", "ffn", "head"):
        for pair in ("wide_to_narrow", "narrow_to_wide"):
            with pytest.raises(ConfigError, match=rf"keep {part}: as released, no map .*choose rules corrected"):
                fused(FlowOptions(keep=(part,), rules="released"), pair)
    fused(FlowOptions(keep=("biases",), rules="released"), "wide_to_narrow")


@pytest.mark.parametrize("part", KEPT)
def test_what_is_kept_is_the_anchors_and_nothing_else_changes(part: Any) -> None:
    anchor, before, after = vit("narrow", 0), fused(FlowOptions()), fused(FlowOptions(keep=(part,)))
    names = anchor.spec.part(part)
    assert names
    assert all(torch.equal(after[name], anchor.tensors[name]) for name in names)
    assert changed(before, after) <= names


@pytest.mark.parametrize("rules", ["released", "corrected"])
def test_what_activations_are_taken_of_does_not_matter_to_weights(rules: Any) -> None:
    plain = FlowOptions(rules=rules)
    for change in ({"tokens": "window-2"}, {"transform": "centre"}, {"max_loss": 2.5}):
        other = replace(plain, **change)
        assert changed(fused(plain), fused(other))
        assert not changed(fused(plain, evidence="weights"), fused(other, evidence="weights"))
    weighed = [FlowOptions(rules=rules, policy="matrix", tokens=tokens) for tokens in ("all", "class")]
    assert changed(*(fused(each, evidence="weights") for each in weighed)), "weights of a junction are activations"


@pytest.mark.parametrize("rules", ["released", "corrected"])
def test_what_each_option_changes(rules: Any) -> None:
    plain = FlowOptions(rules=rules, regularization=0.1)
    before = fused(plain)
    queries = named(before, "q_proj", "k_proj")
    for kind in ("shared", "joint"):
        assert changed(before, fused(replace(plain, queries=kind))) == queries, "their maps end in them"
    embeddings = named(before, "embeddings")
    for policy in ("scalar", "matrix", "skip", "branch", "identity"):
        after = changed(before, fused(replace(plain, policy=policy)))
        assert after
        assert not after & embeddings, "they come before the first junction"
    for change in ({"regularization": 0.3}, {"cost": "squared"}, {"scale": "none"}, {"plan": "hard"}):
        assert changed(before, fused(replace(plain, **change))) >= before.keys() - {TOKEN, "classifier.bias"}
    hard = fused(replace(plain, plan="hard"))
    assert not changed(hard, fused(replace(plain, plan="hard", regularization=0.3)))
    scaled = fused(replace(plain, plan="hard", scale="mean"))
    assert changed(hard, scaled) <= {TOKEN}, "a plan of least cost is one in any unit"
