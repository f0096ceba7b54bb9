"""Short names of paths, for pages and tables with little room."""

from collections.abc import Sequence
from pathlib import PurePath

KEPT_PARTS = 2  # a relative path, or a name on the Hub, of so many parts is short already


def short_names(paths: Sequence[str]) -> list[str]:
    """Return the last part of each path, with as many parts before it as tell different paths apart."""
    parts = [PurePath(path).parts or (path,) for path in paths]
    return [
        path if len(own) <= KEPT_PARTS and not PurePath(path).is_absolute() else "/".join(own[-_distinct(own, parts) :])
        for path, own in zip(paths, parts, strict=True)
    ]


def _distinct(own: tuple[str, ...], all_parts: Sequence[tuple[str, ...]]) -> int:
    """Return how many last parts of a path no different path ends with."""
    others = [parts for parts in all_parts if parts != own]
    lengths = range(1, len(own))
    return next((length for length in lengths if all(own[-length:] != parts[-length:] for parts in others)), len(own))
