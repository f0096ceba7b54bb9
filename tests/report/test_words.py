"""Spaces have plain words on the page."""

from cases import CASES

from transfuse.fusion.plan import kind_name
from transfuse.network.layout import unfused
from transfuse.network.model import declaration
from transfuse.network.symmetry import symmetric
from transfuse.report.facts import MatchedSpace
from transfuse.report.words import WORDS, kind_words, kinds_in_words, space_words


def test_every_space_of_every_family_has_words() -> None:
    """Those of the exact symmetries, and those that the paper's flow matches."""
    kinds = set()
    for case in CASES:
        spec = unfused(declaration(case.build()))
        kinds |= {kind_name(name) for each in (spec, symmetric(spec)) for name in each.spaces()}
    last = {[part for part in kind.split(".") if not part.isdigit()][-1] for kind in kinds}
    assert last - WORDS.keys() == set()
    words = [kind_words(kind) for kind in sorted(kinds)]
    assert len(set(words)) == len(words), "two kinds have the same words"


def test_places_and_numbers() -> None:
    assert kind_words("stream") == "residual stream"
    assert kind_words("stream.1") == "residual stream 2"
    assert kind_words("decoder.cross.head") == "attention heads (decoder, cross-attention)"
    assert kind_words("my_own") == "my own"
    assert space_words("decoder.3.hidden") == "block 3: hidden units (decoder)"
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
