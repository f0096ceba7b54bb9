"""Texts of .txt files: those between blank lines, or each line of a file without any."""

from glob import escape
from itertools import groupby
from pathlib import Path

import fsspec
from datasets import Dataset, concatenate_datasets


def read_texts(files: list[Path], lines: bool = False) -> Dataset:
    """Read the texts between the blank lines of a file, or each line if it has none, and leave out empty texts.

    Args:
        lines: whether each line is a text, also if blank lines separate longer texts.
    """
    by_paragraph = [] if lines else [path for path in files if _has_paragraphs(path)]
    by_line = sorted({*files} - {*by_paragraph})
    parts = []
    if by_line:
        parts.append(Dataset.from_text(escaped(by_line)))
    if by_paragraph:
        texts = Dataset.from_text(escaped(by_paragraph), sample_by="paragraph")
        parts.append(texts.map(lambda row: {"text": row["text"].strip("\n")}, keep_in_memory=True))
    return concatenate_datasets(parts).filter(lambda row: row["text"].strip() != "", keep_in_memory=True)


def escaped(files: list[Path]) -> list[str]:
    """Return the absolute paths of files, in which no character is a pattern to `datasets`."""
    return [escape(str(path.absolute())) for path in files]


def _has_paragraphs(path: Path) -> bool:
    """Return whether a blank line stands between two other lines of a file."""
    with fsspec.open(str(path), "rt", encoding="utf-8", compression="infer") as lines:
        return sum(not blank for blank, _ in groupby(lines, "\n".__eq__)) > 1
