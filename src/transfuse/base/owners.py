"""Tensors of several owners in one file, under names such as `stream/index`."""

from collections.abc import Mapping

from torch import Tensor


def by_owner(tensors: Mapping[str, Tensor], separator: str = "/") -> dict[str, dict[str, Tensor]]:
    """Return the tensors of each owner, which stands before the last `separator` of their names."""
    groups: dict[str, dict[str, Tensor]] = {}
    for key, values in tensors.items():
        owner, _, name = key.rpartition(separator)
        groups.setdefault(owner, {})[name] = values
    return groups
