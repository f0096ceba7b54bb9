"""The similarity of matched units."""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from transfuse.network.axes import leaves
from transfuse.network.spec import Spec


def cosine_similarities(
    spec: Spec, anchor: Mapping[str, Tensor], carried: Mapping[str, Tensor]
) -> dict[str, Float[Tensor, " units"]]:
    """Return the cosine similarity of each unit's weights in the anchor and in an aligned source.

    The weights of a unit are all entries that read or write it, over all tensors. The similarity is 1 for equal units
    and about 0 for unrelated ones.

    Args:
        spec: the anchor's unfused declaration, as the alignment transforms it.
        anchor: the anchor's tensors.
        carried: the source's tensors in the same basis.

    Returns:
        One vector for each free space that is within no other, by name.
    """
    sums: dict[str, Tensor] = {}
    for name, axes in spec.tensors().items():
        spaces = [space for axis in axes for space, _ in leaves(axis)]
        shape = [space.units for space in spaces]
        pair = [tensors[name].double().reshape(shape) for tensors in (anchor, carried)]
        for dim, space in enumerate(spaces):
            if space.free and space.within is None:
                first, second = (values.movedim(dim, 0).reshape(space.units, -1) for values in pair)
                products = [(first * second).sum(1), (first * first).sum(1), (second * second).sum(1)]
                sums[space.name] = sums.get(space.name, 0) + torch.stack(products)
    return {
        name: cross / (square * carried_square).sqrt().clamp_min(1e-30)
        for name, (cross, square, carried_square) in sums.items()
    }
