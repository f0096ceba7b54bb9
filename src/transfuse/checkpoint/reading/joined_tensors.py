"""Tensors of a model that a checkpoint stores in parts, such as the weights of all experts of a layer.

transformers joins the parts while it loads a model, and splits them again when it saves one. Here one tensor is joined
at a time, by the operations of transformers, so that models that memory does not hold can be read and written too.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.core_model_loading import WeightConverter, dot_natural_key, revert_weight_conversion

from transfuse.checkpoint.reading.tensor_location import TensorLocation


@dataclass(frozen=True)
class StoredPart:
    """A part of a tensor.

    Attributes:
        pattern: what transformers recognizes its name by.
        location: the file that holds it.
    """

    pattern: str
    location: TensorLocation


@dataclass(frozen=True, eq=False)
class JoinedLocation:
    """The files that hold the parts of a tensor.

    Attributes:
        name: the tensor's name in the model.
        shape: its shape there.
        stored: the parts, in order.
        converter: what joins them.
        model: the model, whose tensors may be empty.
    """

    name: str
    shape: tuple[int, ...]
    stored: tuple[StoredPart, ...]
    converter: WeightConverter
    model: PreTrainedModel

    @property
    def parts(self) -> tuple[TensorLocation, ...]:
        """The places of the parts."""
        return tuple(part.location for part in self.stored)

    def read(self) -> Tensor:
        """Return the joined tensor, which takes memory."""
        converter = copy.deepcopy(self.converter)
        for part in self.stored:
            converter.add_tensor(self.name, part.location.name, part.pattern, part.location.read())
        (values,) = converter.convert(self.name, model=self.model, config=self.model.config).values()
        return values[0] if isinstance(values, list) else values

    def split(self, values: Tensor) -> dict[str, Tensor]:
        """Return the parts of a tensor that takes the place of this one, by their names in files."""
        parts: dict[str, Tensor] = revert_weight_conversion(self.model, {self.name: values})
        return parts


def joined_location(
    model: PreTrainedModel, name: str, converter: WeightConverter, parts: Sequence[StoredPart]
) -> JoinedLocation | None:
    """Return the location of a tensor that is stored in parts; None if these cannot be joined one tensor at a time.

    Args:
        model: the model, whose tensors may be empty.
        name: the tensor's name in the model.
        converter: what joins the parts.
        parts: the parts in any order.
    """
    expected: Mapping[str, Tensor] = model.state_dict()
    if len(converter.target_patterns) != 1 or name not in expected:
        return None
    ordered = tuple(sorted(parts, key=lambda part: dot_natural_key(part.location.name)))
    shape = tuple(expected[name].shape)
    found = JoinedLocation(name, shape, ordered, converter, model)
    split = found.split(torch.empty(shape, device="meta"))
    stored = {part.name: part.shape for part in found.parts}
    return found if {part: tuple(values.shape) for part, values in split.items()} == stored else None
