"""The alignment methods that a user can choose from."""

from transfuse.alignment.exact.method import align_exact
from transfuse.alignment.flow.method import align_flow
from transfuse.alignment.interface import AlignContext, Alignment, Method
from transfuse.network.compatible import check_same_widths
from transfuse.network.model import Network


def align_none(anchor: Network, source: Network, context: AlignContext) -> Alignment:
    """Leave the source as it is, for the plain average.

    Raises:
        SpecError: the widths differ.
    """
    check_same_widths(anchor, source, "none")
    return Alignment(source.spec, anchor.tensors, source.tensors)


# `learned` starts from the exact alignment.
METHODS: dict[str, Method] = {"none": align_none, "flow": align_flow, "exact": align_exact, "learned": align_exact}
