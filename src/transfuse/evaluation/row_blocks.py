"""Blocks of samples, so that all of them can be compared with all others in little memory."""

from collections.abc import Iterator

MAX_ENTRIES = 1 << 23  # numbers in a block of rows, 64 MiB in double precision


def row_blocks(rows: int) -> Iterator[slice]:
    """Yield slices of the rows of a square matrix, each with at most `MAX_ENTRIES` numbers, or of one row."""
    height = max(MAX_ENTRIES // max(rows, 1), 1)
    for first in range(0, rows, height):
        yield slice(first, min(first + height, rows))
