"""The alignment methods that a user can choose: each carries a source into the anchor's basis.

A new method is one decorated function, here or in a file that `--spec` names.
"""

from collections.abc import Callable

from transfuse.alignment.exact.method import align_exact
from transfuse.alignment.flow.method import align_flow
from transfuse.alignment.interface import AlignContext, Alignment, Method
from transfuse.config.literals import ALIGNMENTS
from transfuse.network.compatible import check_same_widths
from transfuse.network.model import Network

ALIGNMENT_METHODS: dict[str, Method] = {}


def alignment_method(name: str, keeps_function: bool = False) -> Callable[[Method], Method]:
    """Register an alignment method under the name that `--align` takes.

    Args:
        keeps_function: whether an aligned model computes what it did before; then every run checks that it does.
    """

    def register(method: Method) -> Method:
        ALIGNMENT_METHODS[name] = method
        ALIGNMENTS[name] = keeps_function
        return method

    return register


@alignment_method("none", keeps_function=True)
def align_none(anchor: Network, source: Network, context: AlignContext) -> Alignment:
    """Leave the source as it is, for the plain average.

    Raises:
        SpecError: the widths differ.
    """
    check_same_widths(anchor, source, "none")
    return Alignment(source.spec, anchor.tensors, source.tensors)


alignment_method("flow")(align_flow)
alignment_method("exact", keeps_function=True)(align_exact)
alignment_method("learned", keeps_function=True)(align_exact)  # the start of the training
