"""Which split a file belongs to, and which of several to take."""

import re
from collections.abc import Collection
from pathlib import Path

from transfuse.errors import DataError

Split = str | tuple[str, ...]
"""One split by name, or names in order of preference."""

EVALUATION: Split = ("test", "validation", "valid", "val", "dev", "train")
CALIBRATION: Split = ("train", "validation", "valid", "val", "dev", "test")
_SPLIT = re.compile(r"(?<![a-z])(train|test|val|dev|eval)(?:ing|id|idation|uation)?(?![a-z])")
_CANONICAL = {"train": "train", "test": "test", "val": "validation", "dev": "validation", "eval": "validation"}


def pick_split(splits: Collection[str], split: Split, where: str) -> str:
    """The split called `split`, or the first there is of several preferred, or the only one.

    Raises:
        DataError: `split` is not there, or several are and none of them is preferred.
    """
    if isinstance(split, str):
        alias = canonical_split(split) if _SPLIT.fullmatch(split.lower()) else ""
        found = [name for name in splits if name == split] or [name for name in splits if alias and name == alias]
        if not found:
            there = ", ".join(name for name in splits if name) or "no splits"
            raise DataError(f"{where}: no split {split!r}; it has {there}")
        return found[0]
    preferred = [name for name in split if name in splits] or list(splits)
    if len(preferred) > 1 and preferred[0] not in split:
        raise DataError(f"{where}: say which split to use: {', '.join(splits)}")
    return preferred[0]


def group_by_split(folder: Path, files: list[Path]) -> dict[str, list[Path]]:
    """Files by the split that a folder below `folder`, or a part of the file's name, names; all under "" if none.

    Raises:
        DataError: only some of them name a split.
    """
    splits: dict[str, list[Path]] = {}
    for path in files:
        words = path.relative_to(folder).with_suffix("").parts
        splits.setdefault(next((name for word in words if (name := canonical_split(word))), ""), []).append(path)
    if "" in splits and len(splits) > 1:
        raise DataError(f"{folder}: some files name a split and {splits[''][0].name} does not; name the file to read")
    return splits


def canonical_split(word: str) -> str:
    """ "train", "validation" or "test" if a part of `word` is a usual name of it ("valid-00000"), else ""."""
    found = _SPLIT.search(word.lower())
    return _CANONICAL[found[1]] if found else ""
