"""The models that others are compared with where there are no labels: the parents, in the anchor's basis if need be."""

from collections.abc import Sequence

from transformers import PreTrainedModel

from transfuse.base.lazy import Tensors
from transfuse.data.tasks import Task
from transfuse.network.model import Network, with_tensors


def parents_in_one_basis(
    model_task: Task,
    networks: Sequence[Network],
    aligned: Sequence[Tensors],
    borrowed: Sequence[frozenset[str]] = (),
) -> list[PreTrainedModel]:
    """Return the parents; those without a head, whose outputs depend on the basis, as the alignment transformed them.

    A parent whose head is not fused has the anchor's head, which reads the basis of the anchor.

    Args:
        networks: the parents, the anchor first.
        aligned: their tensors in the anchor's basis.
        borrowed: for each parent after the anchor, its tensors that are the anchor's; empty: none.
    """
    anchor = networks[0].model
    if model_task.kind != "outputs" and not any(borrowed):
        return [network.model for network in networks]
    return [with_tensors(anchor, tensors) for tensors in aligned]
