"""The alignments a user can choose: each carries a source into the anchor's basis."""

from transfuse.align.aligned import Aligned, Choices, Method
from transfuse.align.by_flow import align_flow
from transfuse.align.by_symmetry import align_exact
from transfuse.network.compatible import check_same_widths
from transfuse.network.model import Network


def align_none(anchor: Network, source: Network, choices: Choices) -> Aligned:
    """Leave the source as it is: the plain average."""
    check_same_widths(anchor.spec, source.spec, "none")
    return Aligned(source.spec, anchor.tensors, source.tensors)


# Learned maps start from the exact ones.
METHODS: dict[str, Method] = {"none": align_none, "flow": align_flow, "exact": align_exact, "learned": align_exact}
