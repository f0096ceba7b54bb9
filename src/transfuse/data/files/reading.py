"""What is read from a source, and what comes of it."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from datasets import Dataset

from transfuse.data.files.splits import Split


@dataclass(frozen=True)
class Reading:
    """Which part of a source is read, and how.

    Attributes:
        split: a split by name, or in order of preference.
        image: the column of images; None: the only one that can be it.
        lines: whether each line of a .txt file is a text, also if blank lines separate longer texts.
    """

    split: Split
    image: str | None = None
    lines: bool = False


@dataclass(frozen=True)
class NamedDataset:
    """Hold a dataset.

    Attributes:
        dataset: the rows.
        name: name of the data in messages, with that of the split.
        source: path or name of the data.
        split: the split; None if the source has no splits.
        alphabetical: whether the classes are names of folders, in alphabetical order.
        files: the real paths of the files that hold the rows; empty for rows in memory.
        is_text: whether they are tables of text, which do not tell numbers from names.
        notes: what the user should know about what was read, a line each.
        image_problem: why the images cannot be read; None if they can, or if there are none.
    """

    dataset: Dataset
    name: str
    source: str
    split: str | None = None
    alphabetical: bool = False
    files: frozenset[str] = frozenset()
    is_text: bool = False
    notes: tuple[str, ...] = ()
    image_problem: str | None = None


def real_paths(paths: Iterable[str | Path]) -> frozenset[str]:
    """Return the paths of files without links."""
    return frozenset(map(os.path.realpath, paths))
