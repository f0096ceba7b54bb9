"""The models that others are compared with where there are no labels: the parents, in the anchor's basis if need be."""

from collections.abc import Sequence

from transformers import PreTrainedModel

from transfuse.alignment.interface import Alignment, aligned_weights
from transfuse.data.tasks import Task
from transfuse.network.model import Network, with_tensors


def parents_in_one_basis(
    model_task: Task, networks: Sequence[Network], alignments: Sequence[Alignment]
) -> list[PreTrainedModel]:
    """Return the parents; those without a head, whose outputs depend on the basis, as the alignment transformed them.

    Args:
        networks: the parents, the anchor first.
        alignments: one per parent after the anchor.
    """
    anchor = networks[0].model
    if model_task.kind != "outputs":
        return [network.model for network in networks]
    return [with_tensors(anchor, tensors) for tensors in aligned_weights(alignments)]
