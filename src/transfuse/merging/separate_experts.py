"""Tensors that hold all experts of a layer in the model, and one expert each in the files.

Merge methods that look at a whole tensor, for its largest entries or its angle to another, treat every expert alone, as
they would if they read the files.
"""

from transfuse.checkpoint.writing.tensor_names import tensor_names
from transfuse.network.model import Network


def separate_experts(network: Network) -> frozenset[str]:
    """Return the names of unfused tensors whose slices along the first axis are tensors of their own in files."""
    stacked = {name: op.stacked.units for op in network.spec.linears() if op.stacked for name in op.tensors()}
    if not stacked:
        return frozenset()
    names = tensor_names(network.model)
    return frozenset(name for name, units in stacked.items() if len(names[name].in_files) == units > 1)
