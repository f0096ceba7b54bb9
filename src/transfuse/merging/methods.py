"""The merge methods that a user can choose. Each of them combines aligned models into one.

A new method is one decorated function (see docs/adding-a-merge-method.md).
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import TypeAlias

from torch import Tensor
from transformers import PreTrainedModel

from transfuse.base.lazy import Tensors
from transfuse.config.literals import DENSITY, MERGE_METHODS, MethodTraits
from transfuse.merging.mean import mean
from transfuse.merging.per_layer import PerLayer
from transfuse.merging.request import MergeRequest, fitted_models
from transfuse.merging.separate_experts import separate_experts
from transfuse.merging.slerp import slerp
from transfuse.merging.task_vectors import Sparsify, add, add_elected, drop, merge_task_vectors, trim
from transfuse.merging.training.learning import learn_weights
from transfuse.network.model import tied_to

MergeMethod: TypeAlias = Callable[[MergeRequest], Mapping[str, Tensor] | PreTrainedModel]


def merge_method(
    name: str, needs_data: bool = False, needs_base: bool = False, sparse: bool = False, summed: bool = False
) -> Callable[[MergeMethod], MergeMethod]:
    """Register a merge method under the name that `--merge` takes.

    Args:
        needs_data: whether it is an error to choose the method without `--data`.
        needs_base: whether it is an error to choose the method without `--base`.
        sparse: whether the method keeps a share of the entries of task vectors, so that it takes `--density`.
        summed: whether weights of task vectors count as given, and may be negative, unless the user chose otherwise.
    """

    def register(method: MergeMethod) -> MergeMethod:
        MERGE_FUNCTIONS[name] = method
        MERGE_METHODS[name] = MethodTraits(needs_data, needs_base, sparse, summed)
        return method

    return register


def merge_mean(request: MergeRequest) -> Tensors:
    """Return the weighted mean of the aligned models."""
    return mean(request.parents, request.tensor_weights)


def merge_slerp(request: MergeRequest) -> Tensors:
    """Interpolate two models on the arc between their tensors; the weight of the second is the position."""
    first, second = request.parents
    return slerp(first, second, request.tensor_weights, separate_experts(request.anchor))


def merge_task_arithmetic(request: MergeRequest) -> Tensors:
    """Add the weighted task vectors to the base."""
    return _merge_task_vectors(request, trim, elected=False, averaged=False, density=1.0)


def merge_ties(request: MergeRequest) -> Tensors:
    """Keep the largest entries of the task vectors, and average those that have the elected sign."""
    return _merge_task_vectors(request, trim, elected=True, averaged=True)


def merge_dare_linear(request: MergeRequest) -> Tensors:
    """Drop entries of the task vectors at random, rescale the others, and add them."""
    return _merge_task_vectors(request, partial(drop, seed=request.seed), elected=False, averaged=False)


def merge_dare_ties(request: MergeRequest) -> Tensors:
    """Drop entries of the task vectors at random, rescale the others, and average those that have the elected sign."""
    return _merge_task_vectors(request, partial(drop, seed=request.seed), elected=True, averaged=True)


def _merge_task_vectors(
    request: MergeRequest, sparsify: Sparsify, elected: bool, averaged: bool, density: float = DENSITY
) -> Tensors:
    """Return the base plus the merged task vector.

    Args:
        averaged: whether weights are relative to each other, unless the user chose it.
        density: of each task vector, unless the user chose it.
    """
    assert request.base is not None
    layers = request.layers
    count = len(request.parents)
    densities = layers.densities or (density,)
    return merge_task_vectors(
        request.base,
        request.parents,
        PerLayer.of(request.anchor, "weights", layers.weights or (1.0,) * count),
        PerLayer.of(request.anchor, "density", densities * count if len(densities) == 1 else densities),
        sparsify,
        add_elected if elected else add,
        averaged if layers.task_weights == "auto" else layers.task_weights == "mean",
        layers.task_scale,
        tied_to(request.anchor.model),
        separate_experts(request.anchor),
    )


def merge_least_squares(request: MergeRequest) -> PreTrainedModel:
    """Fit every linear map of the mean to what the parents compute on the samples."""
    return fitted_models(request, request.batches, request.store)[0]


def merge_learned(request: MergeRequest) -> PreTrainedModel:
    """Start from fitted layers, from a parent, or from merged task vectors, and train all weights to match the parents.

    Held-out samples choose the start and the best step. A carried fine-tune starts from fitted layers or the new base.
    """
    return learn_weights(request, {} if request.base is None else {"ties": partial(merge_ties, request)})


# The functions of `config.literals.MERGE_METHODS`.
MERGE_FUNCTIONS: dict[str, MergeMethod] = {
    "mean": merge_mean,
    "least-squares": merge_least_squares,
    "learned": merge_learned,
    "slerp": merge_slerp,
    "task-arithmetic": merge_task_arithmetic,
    "ties": merge_ties,
    "dare-linear": merge_dare_linear,
    "dare-ties": merge_dare_ties,
}
