"""Spaces have plain words on the page."""

import pytest
from cases import CASES, Case

from transfuse.alignment.spec_for import flow_spec
from transfuse.config.flow_options import FlowOptions
from transfuse.network.block_numbers import kind_name
from transfuse.network.layout import unfused
from transfuse.network.model import declaration
from transfuse.network.symmetry import symmetric
from transfuse.report.facts import MatchedSpace
from transfuse.report.words import kind_words, kinds_in_words, space_words


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_space_has_words_of_its_own(case: Case) -> None:
    """Those of the exact symmetries, and those that the paper's flow matches."""
    spec = unfused(declaration(case.build()))
    choices = ("separate", "shared") if "share_att_key" in case.name else ("separate", "shared", "joint")
    flows = [flow_spec(spec, FlowOptions(queries=queries)) for queries in choices]
    for each in (symmetric(spec), *flows):
        kinds = {kind_name(name) for name in each.spaces()}
        spaces = [MatchedSpace(1, kind, kind, None, None, (), {"target_units": 4}) for kind in kinds]
        legend = kinds_in_words(spaces)
        assert [kind.name for kind in legend if not kind.meaning] == []
        assert len({kind.name for kind in legend}) == len(kinds), "two kinds have the same words"
        assert [kind.name for kind in legend if set("_.[]") & set(kind.name)] == []


def test_places_and_numbers() -> None:
    assert kind_words("stream") == "residual stream"
    assert kind_words("stream.1") == "residual stream 2"
    assert kind_words("decoder.cross.head") == "attention heads (decoder, cross-attention)"
    assert kind_words("decoder.block.layer.EncDecAttention.v") == "values (decoder, cross-attention)"
    assert kind_words("transformer.h.attn.c_attn[1]") == "keys"
    assert kind_words("v") == "value channels"
    assert kind_words("my_own") == "my own"
    assert space_words("decoder.3.hidden") == "block 3: hidden units (decoder)"
    assert space_words("bert.encoder.layer.3.attention.self.query") == "block 3: queries"
    assert space_words("pooled") == "pooled units"


def test_the_legend_lists_each_kind_once() -> None:
    spaces = [
        MatchedSpace(model, f"{block}.head", "head", block, None, (), {"target_units": 4})
        for model in (1, 2)
        for block in range(3)
    ]
    (kind,) = kinds_in_words(spaces)
    assert (kind.name, kind.count, kind.units) == ("attention heads", 3, 4)
    assert kind.meaning
