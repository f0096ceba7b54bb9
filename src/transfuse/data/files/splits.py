"""The split that a file belongs to, and the choice of one of several splits."""

import re
from collections.abc import Collection, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import TypeVar

from transfuse.data.columns import listed_names
from transfuse.errors import DataError

Split = str | tuple[str, ...]
"""One split by name, or names in order of preference."""

Part = TypeVar("Part")

EVALUATION: Split = ("test", "validation", "train")
CALIBRATION: Split = ("train", "validation", "test")
_NAME = "(train|test|val|dev|eval)(?:ing|id|idation|uation)?(?:set|data)?"
_SPLIT = re.compile(rf"(?<![a-z]){_NAME}(?![a-z])")
_CONTENTS = "(?:images?|imgs?|photos?|pictures?|samples?|data|set|split)"
_NUMBERS = r"[\W\d_]*"  # and signs
_SOLE_SPLIT = re.compile(rf"(?:{_CONTENTS}[\W\d_]+)?{_NUMBERS}{_NAME}{_NUMBERS}(?:{_CONTENTS}{_NUMBERS})?")
_KIND = re.compile(r"\.[a-z]+(\.(?:bz2|gz|xz|zst))?$", re.IGNORECASE)
_SHARD = re.compile(r"[-_. ]\d+-of-\d+(?:-[0-9a-f]+)?$")  # of files that `datasets` writes
_PART = re.compile(r"(?:[-_. ]?(?:part|shard|chunk|batch)[-_. ]?|[-_. ])\d+$", re.IGNORECASE)
_CANONICAL = {"train": "train", "test": "test", "val": "validation", "dev": "validation", "eval": "validation"}


def pick_split(splits: Collection[str], split: Split, where: str) -> str:
    """Return the split named `split`, or the first one that exists of a preference order, or the only one.

    A usual name also stands for other names of the same split: "validation" for "val" or "validation_matched".

    Args:
        where: source of the data, for error messages.

    Raises:
        DataError: there is no split of that name, or there are several and none or more than one of them is preferred.
    """
    if isinstance(split, str):
        named = _named(splits, split)
        if len(named) != 1:
            existing = ", ".join(name for name in splits if name) or "no splits"
            raise DataError(f"{where}: no split {split!r}; it has {existing}")
        return named[0]
    usual, preferred = next(((wanted, named) for wanted in split if (named := _named(splits, wanted))), ("", []))
    if not preferred and len(splits) > 1:
        raise DataError(f"{where}: say which split to use: {', '.join(splits)}")
    if len(preferred) > 1:
        raise DataError(
            f"{where}: several splits {usual}: {', '.join(preferred)}; choose with --split, or --split {usual} for all"
            " of them"
        )
    return next(iter(preferred or splits))


def with_joined_split(splits: Mapping[str, Sequence[Part]], split: Split) -> Mapping[str, Sequence[Part]]:
    """Return the parts of each split; those of several are one split if `split` is a usual name of all of them."""
    named = _named(splits, split) if isinstance(split, str) else []
    if len(named) < 2 or not isinstance(split, str):
        return splits
    return {canonical_split(split): list(chain.from_iterable(splits[name] for name in named))}


def pick_own_split(splits: Collection[str], split: Split, source: Path, own: str) -> tuple[str, str]:
    """Return the split that `pick_split` picks, and the one that it is: `own` if the source is a split itself.

    Args:
        splits: names of splits; only "" if the source has none inside.
        own: the split that the name of the source tells; "" if it tells none.
    """
    if own and set(splits) == {""}:
        return "", pick_split([own], split, str(source))
    chosen = pick_split(splits, split, str(source))
    return chosen, chosen


def _named(splits: Collection[str], wanted: str) -> list[str]:
    """Return the split of this name; else those with another usual name of it; else those that name it in a part."""
    usual = canonical_split(wanted) if _SPLIT.fullmatch(wanted.lower()) else ""
    exact = [name for name in (wanted, usual) if name and name in splits]
    same = [name for name in splits if usual and canonical_split(name) == usual]
    return exact[:1] or [name for name in same if _SPLIT.fullmatch(name.lower())] or same


def group_by_split(folder: Path, files: list[Path], wanted: Split) -> dict[str, list[Path]]:
    """Return files by split: the one that a subfolder or a part of the file name names, or "" for all if none does.

    Beside such files, a shard as `datasets` names it is of a split too: that of "extra-00000-of-00001" is "extra".

    Args:
        wanted: the split to read; if files name it, those that name none are left out.

    Raises:
        DataError: only some of the files name a split, or several folders have the same split.
    """
    splits: dict[str, list[Path]] = {}
    holders: dict[str, set[str]] = {}  # folders that a split is in
    for path in files:
        parts = path.relative_to(folder).parts
        parts = (*parts[:-1], _KIND.sub("", parts[-1]))
        depth, name = next(((at, part) for at, part in enumerate(parts) if canonical_split(part)), (0, ""))
        splits.setdefault(_split_name(name), []).append(path)
        holders.setdefault(canonical_split(name), set()).add("/".join(parts[:depth]) or ".")
    for split, names in holders.items():
        if len(names) > 1:
            raise DataError(
                f"{folder}: several folders have a split {split} ({listed_names(sorted(names))}); give one of them"
            )
    if len(splits) > 1:
        others = splits.pop("", [])
        for path in [path for path in others if _SHARD.search(_KIND.sub("", path.name))]:
            splits.setdefault(_split_name(_KIND.sub("", path.name)), []).append(path)
            others.remove(path)
        if others and not (isinstance(wanted, str) and _named(splits, wanted)):
            raise DataError(f"{folder}: some files name a split and {others[0].name} does not; name the file to read")
    return splits


def _split_name(name: str) -> str:
    """Return the split of a name without the number of a shard: the usual name of it if the name says nothing else."""
    own = _PART.sub("", _SHARD.sub("", name))
    return sole_split(own) or own


def canonical_split(name: str) -> str:
    """Return "train", "validation" or "test" if a part of `name` is a usual name of it ("valid-00000"), else ""."""
    match = _SPLIT.search(name.lower())
    return _CANONICAL[match[1]] if match else ""


def sole_split(name: str) -> str:
    """Return the split of a name that says nothing else ("train2017", "val_images", but not "test_tube"), or ""."""
    return canonical_split(name) if _SOLE_SPLIT.fullmatch(name.lower()) else ""


def with_split(where: str, split: str | None) -> str:
    """Return the name of a source with that of its split, if it has one."""
    return f"{where} (split {split})" if split else where
