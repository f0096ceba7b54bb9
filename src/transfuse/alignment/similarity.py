"""How well units were matched: by what they weigh in two models that share a basis."""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from transfuse.network.space import leaves
from transfuse.network.spec import Spec


def cosine_similarities(
    spec: Spec, anchor: Mapping[str, Tensor], carried: Mapping[str, Tensor]
) -> dict[str, Float[Tensor, " units"]]:
    """Of every space that lies within no other, the cosine of each unit in the anchor and in a carried source.

    A unit is everything that reads and writes it, over all tensors. 1: the same; 0: nothing in common, as between
    units that were not matched.

    Args:
        spec: the anchor's, opened, as the alignment sees it.
    """
    sums: dict[str, Tensor] = {}
    for name, axes in spec.tensors().items():
        found = [leaf for axis in axes for leaf, _ in leaves(axis)]
        both = [tensors[name].double().reshape([space.units for space in found]) for tensors in (anchor, carried)]
        for place, space in enumerate(found):
            if space.free and space.within is None:
                ours, theirs = (values.movedim(place, 0).reshape(space.units, -1) for values in both)
                products = torch.stack([(ours * theirs).sum(1), (ours * ours).sum(1), (theirs * theirs).sum(1)])
                sums[space.name] = sums.get(space.name, 0) + products
    return {name: cross / (ours * theirs).sqrt().clamp_min(1e-30) for name, (cross, ours, theirs) in sums.items()}
