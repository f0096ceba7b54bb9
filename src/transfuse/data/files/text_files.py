"""Texts of .txt files: those between blank lines, or each line of a file without any."""

from collections.abc import Iterator
from glob import escape
from itertools import groupby
from pathlib import Path

import fsspec
from datasets import Dataset, concatenate_datasets

from transfuse.data.files.tagged_lines import tagged_sentences

ENCODING = "utf-8-sig"  # leaves out the mark that some editors put before the text


def read_texts(files: list[Path], lines: bool = False) -> Dataset:
    """Read the texts between the blank lines of a file, or each line if it has none, and leave out empty texts.

    Sentences in the layout of CoNLL have columns of words and tags, too.

    Args:
        lines: whether each line is a text, also if blank lines separate longer texts.
    """
    by_paragraph = [] if lines else [path for path in files if _has_paragraphs(path)]
    by_line = sorted({*files} - {*by_paragraph})
    parts = []
    if by_line:
        parts.append(Dataset.from_text(escaped(by_line), encoding=ENCODING))
    if by_paragraph:
        texts = ["".join(text).strip("\n") for path in by_paragraph for blank, text in _grouped(path) if not blank]
        tagged = None if by_line else tagged_sentences(texts)
        parts.append(Dataset.from_dict(tagged or {"text": texts}))
    return concatenate_datasets(parts).filter(lambda row: row["text"].strip() != "", keep_in_memory=True)


def escaped(files: list[Path]) -> list[str]:
    """Return the absolute paths of files, in which no character is a pattern to `datasets`."""
    return [escape(str(path.absolute())) for path in files]


def _has_paragraphs(path: Path) -> bool:
    """Return whether a blank line stands between two other lines of a file."""
    return sum(not blank for blank, _ in _grouped(path)) > 1


def _grouped(path: Path) -> Iterator[tuple[bool, Iterator[str]]]:
    """Yield groups of consecutive lines of a file, and whether they are blank: nothing but spaces and tabs."""
    with fsspec.open(str(path), "rt", encoding=ENCODING, compression="infer") as lines:
        yield from groupby(lines, lambda line: not line.strip())
