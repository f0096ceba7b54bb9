"""Classes of transformers that no family declares: nothing of them can be aligned, but their weights can be averaged.

This suffices for models that were fine-tuned from one base, whose units correspond already.
"""

import copy

import torch
import transformers
from transformers import PreTrainedConfig, PreTrainedModel

from transfuse.network.builder import Builder
from transfuse.network.spec import Spec

UNALIGNED: set[str] = set()  # names of the classes that are taken without a declaration


def take_undeclared(architecture: str, taken: bool) -> None:
    """Decide whether a class is taken even if no family declares it, because its models are not aligned."""
    known = getattr(transformers, architecture, None)
    if taken and isinstance(known, type) and issubclass(known, PreTrainedModel):
        UNALIGNED.add(architecture)
    else:
        UNALIGNED.discard(architecture)


def undeclared(config: PreTrainedConfig, architecture: str) -> Spec:
    """Return a declaration in which every unit of every tensor has an identity."""
    with torch.device("meta"):
        model = getattr(transformers, architecture)(copy.deepcopy(config))
    s = Builder(config.model_type)
    for name, values in model.state_dict().items():
        s.parameter(name, *(s.fixed(f"{name}[{axis}]", size) for axis, size in enumerate(values.shape)))
    return s.build()
