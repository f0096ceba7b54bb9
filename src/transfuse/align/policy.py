"""Which map leaves a residual junction where two arrive."""

from collections.abc import Callable

from torch import Tensor

from transfuse.transport.maps import Map, Matrix

Policy = Callable[[Map, Map], Map]


def average(skip: Map, branch: Map) -> Map:
    """The mean of both maps (TF-OT, section 4: "averaging")."""
    pairs = zip(_matrices(skip), _matrices(branch), strict=True)
    return Matrix(*((left + right) / 2 for left, right in pairs))


def _matrices(chosen: Map) -> tuple[Tensor, Tensor]:
    if isinstance(chosen, Matrix):
        return chosen.forward, chosen.backward
    plan = chosen.plan().double()
    return plan, plan
