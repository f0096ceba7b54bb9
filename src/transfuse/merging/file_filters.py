"""Values by parts of names, as mergekit reads them: a part selects tensors by their names in the files alone."""

from collections.abc import Mapping
from typing import Any

from transformers import PreTrainedModel

from transfuse.checkpoint.writing.tensor_names import TensorNames, tensor_names
from transfuse.config.layer_values import EVERYTHING
from transfuse.errors import ConfigError
from transfuse.network.model import tied_to

Names = Mapping[str, TensorNames]


def names_in_files(model: PreTrainedModel) -> Names:
    """Return the names of every unfused tensor of a model that files hold; of tied tensors, the first one's."""
    owners = tied_to(model)
    return {name: names for name, names in tensor_names(model).items() if owners[name] == name}


def with_file_filters(value: Any, names: Names) -> tuple[Any, list[str]]:
    """Return a value whose parts select the tensors that mergekit selects, and the parts that select none.

    A part that is also in names that only the model has becomes one entry for each tensor.

    Args:
        value: as `config.layer_values` defines it.
        names: as `names_in_files` returns them.

    Raises:
        ConfigError: no part selects a tensor, and there is no `*`.
    """
    if not isinstance(value, Mapping):
        return value, []
    entries: dict[str, Any] = {}
    idle = []
    for part, number in value.items():
        selected = [name for name, each in names.items() if any(part in stored for stored in each.in_files)]
        others = (own for name, each in names.items() if name not in selected for own in each.in_model)
        if part == EVERYTHING:
            selected = [part]
        elif not selected:
            idle.append(part)
        elif not any(part in own for own in others):
            selected = [part]
        for name in selected:
            entries.setdefault(name, number)
    if not entries:
        stored = [each.in_files[0] for each in names.values()]
        examples = ", ".join(dict.fromkeys(stored[index] for index in (0, len(stored) // 2, -1)))
        raise ConfigError(f"no tensor's name contains {' or '.join(map(repr, idle))}; names are such as {examples}")
    return entries, idle
