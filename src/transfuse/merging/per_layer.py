"""Numbers that each model has for every tensor: merge weights and densities that change over the depth."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from transfuse.config.layer_values import value_at
from transfuse.errors import ConfigError
from transfuse.network.model import Network, tied_to

BLOCK = re.compile(r"(.*?)(?:^|\.)(\d+)\.")  # the list of blocks that a tensor belongs to, and its place there


@dataclass(frozen=True)
class PerLayer:
    """One number per model for every tensor.

    Attributes:
        option: the option that sets the numbers, for messages.
        values: one per model, as `config.layer_values` defines them.
        depths: from 0 to 1, by the tensor's name. Tied tensors have one depth.
        owners: for tied tensors, the name of the first of them, whose numbers count; for others, their own.
    """

    option: str
    values: Sequence[Any]
    depths: Mapping[str, float]
    owners: Mapping[str, str]

    @classmethod
    def of(cls, network: Network, option: str, values: Sequence[Any]) -> "PerLayer":
        """Return the numbers for the tensors of a network."""
        return cls(option, values, depths(network.spec.tensors()), tied_to(network.model))

    def __call__(self, name: str) -> list[float]:
        """Return the number of each model for a tensor.

        Raises:
            ConfigError: a mapping has no entry for the tensor.
        """
        owner = self.owners[name]
        found = [value_at(value, owner, self.depths[owner]) for value in self.values]
        if None in found:
            raise ConfigError(f"{self.option}: item {found.index(None) + 1} has no entry for {owner}; add '*': NUMBER")
        return [number for number in found if number is not None]

    def normalized(self, name: str) -> list[float]:
        """Return the same, divided by the sum. Raise `ConfigError` if that is zero."""
        numbers = self(name)
        if sum(numbers) == 0:
            raise ConfigError(f"{self.option}: all are zero for {name}; give one of them a positive number there")
        return [number / sum(numbers) for number in numbers]


def depths(names: Iterable[str]) -> dict[str, float]:
    """Return the depth of every tensor, from 0 to 1, given the names in the order of the network.

    Tensors before the first block are at 0 and those after the last one at 1, such as embeddings and heads. The last of
    several blocks is at 1, and so is the only one.
    """
    blocks = {name: (found[1], int(found[2])) for name in names if (found := BLOCK.match(name))}
    last: dict[str, int] = {}
    for prefix, number in blocks.values():
        last[prefix] = max(number, last.get(prefix, 0))
    result: dict[str, float] = {}
    outside = 0.0
    for name in names:
        if name in blocks:
            prefix, number = blocks[name]
            outside = 1.0
            result[name] = number / last[prefix] if last[prefix] else 1.0
        else:
            result[name] = outside
    return result
