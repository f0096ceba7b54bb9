"""An alignment is one registered function, from a file or from Python."""

from collections.abc import Iterator

import pytest
from cases import CASES

import transfuse
from transfuse.alignment.interface import AlignContext, Alignment
from transfuse.alignment.methods import ALIGNMENT_METHODS, align_none, alignment_method
from transfuse.config.literals import ALIGNMENTS
from transfuse.errors import ConfigError, SpecError
from transfuse.network.model import Network

VIT = CASES[0]


@pytest.fixture(autouse=True)
def only_here() -> Iterator[None]:
    """Forget methods after each test."""
    before = dict(ALIGNMENTS), dict(ALIGNMENT_METHODS)
    yield
    for current, known in zip((ALIGNMENTS, ALIGNMENT_METHODS), before, strict=True):
        current.clear()
        current.update(known)


def negated(anchor: Network, source: Network, context: AlignContext) -> Alignment:
    """Change the sign of every tensor of the source."""
    plain = align_none(anchor, source, context)
    return Alignment(plain.spec, plain.anchor, {name: -values for name, values in plain.carried.items()})


def test_a_registered_alignment_can_be_chosen() -> None:
    alignment_method("negated")(negated)
    models = [VIT.build(0), VIT.build(0)]
    fused = transfuse.fuse(models, align="negated").model.state_dict()
    assert all(values.abs().max() == 0 for values in fused.values())


def test_one_that_claims_to_keep_functions_is_checked() -> None:
    alignment_method("negated", keeps_function=True)(negated)
    with pytest.raises(SpecError, match="its function changed in alignment"):
        transfuse.fuse([VIT.build(0), VIT.build(1)], align="negated")


def test_an_unknown_alignment_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"align: 'exat' is not one of none, flow, .* did you mean exact"):
        transfuse.fuse([VIT.build(0), VIT.build(1)], align="exat")
