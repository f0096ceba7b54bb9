"""Numbers that each model has for every tensor: merge weights and densities that change over the depth."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from transfuse.checkpoint.writing.tensor_names import TensorNames, tensor_names
from transfuse.config.layer_values import EVERYTHING, value_at
from transfuse.errors import ConfigError
from transfuse.merging.fitting.layer_groups import shared_parts
from transfuse.network.block_numbers import block_place
from transfuse.network.model import Network, tied_to


@dataclass(frozen=True)
class PerLayer:
    """One number per model for every tensor.

    Attributes:
        option: the option that sets the numbers, for messages.
        values: one per model, as `config.layer_values` defines them.
        depths: from 0 to 1, by the tensor's name. Tied tensors have one depth.
        owners: for tied tensors, the name of the first of them, whose numbers count; for others, their own.
        names: all names of each tensor that counts, for values that are mappings.
    """

    option: str
    values: Sequence[Any]
    depths: Mapping[str, float]
    owners: Mapping[str, str]
    names: Mapping[str, TensorNames] = field(default_factory=dict)

    @classmethod
    def of(cls, network: Network, option: str, values: Sequence[Any]) -> "PerLayer":
        """Return the numbers for the tensors of a network.

        Raises:
            ConfigError: an entry of a mapping is part of no name, or of the names of only some experts of a tensor.
        """
        owners = tied_to(network.model)
        names: dict[str, TensorNames] = {}
        if any(isinstance(value, Mapping) for value in values):
            names = {name: each for name, each in tensor_names(network.model).items() if owners[name] == name}
        for number, value in enumerate(values, 1):
            for part in value if isinstance(value, Mapping) else ():
                _check_part(part, names.values(), f"{option}, item {number}")
        return cls(option, values, depths(network.spec.tensors()), owners, names)

    def __call__(self, name: str) -> list[float]:
        """Return the number of each model for a tensor.

        Raises:
            ConfigError: a mapping has no entry for the tensor.
        """
        owner = self.owners[name]
        names = self.names[owner].all if self.names else ()
        found = [value_at(value, names, self.depths[owner]) for value in self.values]
        if None in found:
            raise ConfigError(f"{self.option}, item {found.index(None) + 1}: no entry for {owner}; add '*': NUMBER")
        return [number for number in found if number is not None]

    def normalized(self, name: str) -> list[float]:
        """Return the same, divided by the sum. Raise `ConfigError` if that is zero."""
        numbers = self(name)
        if sum(numbers) == 0:
            raise ConfigError(f"{self.option}: all are zero for {name}; give one of them a positive number there")
        return [number / sum(numbers) for number in numbers]


def _check_part(part: str, names: Collection[TensorNames], where: str) -> None:
    """Raise `ConfigError` unless a part of names selects a tensor, and the whole of every tensor that it selects."""
    if part == EVERYTHING:
        return
    if not any(part in name for each in names for name in each.all):
        stored = [each.in_files[0] for each in names]
        examples = ", ".join(dict.fromkeys(stored[index] for index in (0, len(stored) // 2, -1)))
        raise ConfigError(f"{where}: no tensor's name contains {part!r}; names are such as {examples}")
    for each in names:
        others = [name for name in each.in_files if part not in name]
        if 0 < len(others) < len(each.in_files) and not any(part in name for name in each.in_model):
            chosen = next(name for name in each.in_files if part in name)
            raise ConfigError(
                f"{where}: {part!r} is in the name {chosen}, but not in {others[0]}, and all experts of a layer have"
                " one number; give a part that their names share"
            )


def depths(names: Iterable[str]) -> dict[str, float]:
    """Return the depth of every tensor, from 0 to 1, given the names in the order of the network.

    Tensors before the first block are at 0 and those after the last one at 1, such as embeddings and heads. Of several
    lists of blocks, such as two towers, the one whose name shares the most parts with the tensor's counts, or all if
    none shares any. The last of several blocks is at 1, and so is the only one.
    """
    blocks = {name: place for name in names if (place := block_place(name))}
    last: dict[str, int] = {}
    for prefix, number in blocks.values():
        last[prefix] = max(number, last.get(prefix, 0))
    result: dict[str, float] = {}
    begun = set()
    for name in names:
        if name in blocks:
            prefix, number = blocks[name]
            begun.add(prefix)
            result[name] = number / last[prefix] if last[prefix] else 1.0
        else:
            nearest = max(last, key=lambda prefix: shared_parts(prefix, name), default="")
            result[name] = float(nearest in begun if shared_parts(nearest, name) else bool(begun))
    return result
