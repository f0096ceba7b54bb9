"""Classifiers whose classes have the same names in another order: reorder the rows of the source's head by name."""

import copy
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedConfig, PreTrainedModel

from transfuse.base.lazy import Lazy, Tensors
from transfuse.base.progress import Progress
from transfuse.network.axes import fixed_dimensions
from transfuse.network.model import Network, as_allocated, sharing_tensors
from transfuse.network.spec import Spec

SPACE = "class"  # the name of the fixed space of classes in every family
GENERIC = re.compile(r"LABEL_\d+", re.IGNORECASE)  # a name that says nothing about its class


def class_order(anchor: PreTrainedConfig, source: PreTrainedConfig, architecture: str) -> list[int] | None:
    """Return, for each of the anchor's classes, the source's class of the same name, without case.

    Args:
        architecture: the class of both models.

    Returns:
        None if the order is the same, or if names do not say which class is which: they are not the same names, a name
        occurs twice or is generic, or the model is not a classifier.
    """
    anchor_labels, source_labels = _labels(anchor), _labels(source)
    if set(anchor_labels.values()) != set(source_labels.values()):
        anchor_labels, source_labels = _folded(anchor_labels), _folded(source_labels)
    numbers = {name: index for index, name in source_labels.items()}
    if "Classification" not in architecture or anchor_labels == source_labels:
        return None
    complete = all(sorted(labels) == list(range(len(numbers))) for labels in (anchor_labels, source_labels))
    if not complete or set(anchor_labels.values()) != numbers.keys() or any(map(GENERIC.fullmatch, numbers)):
        return None
    return [numbers[anchor_labels[index]] for index in range(len(numbers))]


def _labels(config: PreTrainedConfig) -> dict[int, str]:
    return {int(index): name for index, name in (config.id2label or {}).items()}


def _folded(labels: Mapping[int, str]) -> dict[int, str]:
    return {index: folded_name(name) for index, name in labels.items()}


def folded_name(name: str) -> str:
    """Return a class name as it is compared, without case and outer blanks."""
    return name.strip().casefold()


def are_unnamed(labels: Mapping[int, str]) -> bool:
    """Return whether each class is called by its own number, as LABEL_0 is, so that names say nothing."""
    return all(folded_name(name) == f"label_{index}" for index, name in labels.items())


@dataclass(frozen=True)
class DifferingClass:
    """Hold a number that is one class of the anchor and another class of a source, with both names."""

    index: int
    anchor: str
    source: str


def differing_class(anchor: PreTrainedConfig, source: PreTrainedConfig, architecture: str) -> DifferingClass | None:
    """Return the first number by which two classifiers mean different classes; names are compared without case.

    Args:
        architecture: the class of the source.

    Returns:
        None if there is none, if `class_order` says which class is which, if all names of a model are generic, or if
        the source is not a classifier.
    """
    anchor_labels, source_labels = _labels(anchor), _labels(source)
    named = all(not all(map(GENERIC.fullmatch, labels.values())) for labels in (anchor_labels, source_labels))
    if "Classification" not in architecture or not named or class_order(anchor, source, architecture) is not None:
        return None
    anchor_names, source_names = _folded(anchor_labels), _folded(source_labels)
    for index in sorted(anchor_names.keys() & source_names.keys()):
        if anchor_names[index] != source_names[index]:
            return DifferingClass(index, anchor_labels[index], source_labels[index])
    return None


def in_anchor_order(anchor: PreTrainedConfig, source: PreTrainedConfig, architecture: str) -> PreTrainedConfig:
    """Return the source's configuration with the anchor's classes, if it has the same names in any order and case."""
    labels, own = _labels(anchor), _labels(source)
    is_respelled = own != labels and _folded(own) == _folded(labels)
    if not is_respelled and class_order(anchor, source, architecture) is None:
        return source
    reordered = copy.deepcopy(source)
    reordered.id2label = dict(anchor.id2label)
    reordered.label2id = {name: index for index, name in reordered.id2label.items()}
    return reordered


def warn_of_order(
    anchor: PreTrainedConfig, source: PreTrainedModel, name: str, progress: Progress, other: str = "the anchor"
) -> None:
    """Warn the user if the head of a source is reordered.

    Args:
        other: what to call the model whose order counts.
    """
    if class_order(anchor, source.config, type(source).__name__):
        progress.warn(
            f"{name}: id2label names {other}'s classes in another order; its head is reordered by these names"
        )


def order_logits(anchor: PreTrainedConfig, source: PreTrainedModel) -> RemovableHandle | None:
    """Put the logits of `source` into the order of the anchor's classes from now on, if these have the same names.

    Its weights are left alone, so that this works for models of any class.

    Returns:
        What undoes it; None if the order is the same.
    """
    order = class_order(anchor, source.config, type(source).__name__)
    return None if order is None else source.register_forward_hook(partial(_reordered, order))


@contextmanager
def predicting_in_order(anchor: PreTrainedConfig, source: PreTrainedModel) -> Iterator[None]:
    """Let `source` predict, and its configuration name, its classes in the anchor's order, if they have its names."""
    own = source.config
    ordered = in_anchor_order(anchor, own, type(source).__name__)
    hook = order_logits(anchor, source)
    source.config = ordered
    try:
        yield
    finally:
        source.config = own
        if hook is not None:
            hook.remove()


def _reordered(order: list[int], module: object, inputs: object, output: Any) -> Any:
    output["logits"] = output["logits"][..., order]
    return output


def with_anchor_order(network: Network, anchor: PreTrainedConfig) -> Network:
    """Return a network with its classes in the anchor's order, if they have the same names.

    The other tensors are shared with `network`, which is not changed.
    """
    architecture = type(network.model).__name__
    order = class_order(anchor, network.model.config, architecture)
    if order is None:
        return network
    tensors = with_classes(network.tensors, network.spec, order)
    if network.streamed:  # the model has no weights
        model = copy.deepcopy(network.model)
    else:
        model = sharing_tensors(network.model, tensors, lambda stored: network.materialize(as_allocated(stored)))
    model.config = in_anchor_order(anchor, model.config, architecture)
    return replace(network, model=model, tensors=network.materialize(tensors))


def with_classes(tensors: Tensors, spec: Spec, order: Sequence[int]) -> Tensors:
    """Return the tensors of a classifier with its classes in another order.

    Args:
        spec: the declaration of the model, with the names of the tensors.
        order: for each class, its number in `tensors`.
    """
    ordered = Lazy.of(tensors)
    for name, axes in spec.tensors().items():
        for dimension in fixed_dimensions(axes, SPACE):
            ordered.change(name, partial(_selected, dimension, torch.tensor(order)))
    return ordered


def _selected(dimension: int, index: Tensor, values: Tensor) -> Tensor:
    return values.index_select(dimension, index.to(values.device))
