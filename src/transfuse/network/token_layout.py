"""How the tokens of a sequence are laid out."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Tokens:
    """The tokens of a sequence.

    Attributes:
        prefix: the number of special tokens at the start.
        rows, columns: the grid of patches after them, row by row; zero for text of any length.
    """

    prefix: int
    rows: int = 0
    columns: int = 0
