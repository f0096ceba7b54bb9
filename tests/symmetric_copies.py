"""Copies of models in another basis."""

from transformers import PreTrainedModel

from transfuse.alignment.exact.groups import random_alignment
from transfuse.alignment.transform import transform_all
from transfuse.network.layout import split_fused, unfused
from transfuse.network.model import declaration, with_tensors
from transfuse.network.symmetry import fold, symmetric


def moved(model: PreTrainedModel, seed: int = 3) -> PreTrainedModel:
    """Return a model of the same function in another basis: a random element of every exact group."""
    spec = symmetric(unfused(declaration(model)))
    tensors = dict(fold(spec, dict(split_fused(declaration(model), model.state_dict()))))
    return with_tensors(model, transform_all(spec, tensors, random_alignment(spec, seed)))
