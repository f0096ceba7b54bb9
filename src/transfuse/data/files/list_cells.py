"""Lists in the cells of a table of text, as pandas and `datasets` write them: "['a', 'b']", or "['a' 'b']" of numpy."""

import re
from ast import literal_eval
from typing import Any

from datasets import Dataset

from transfuse.data.column_kinds import is_string
from transfuse.data.columns import raw_values, with_values

TEXT = r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\""""
NUMBER = r"[+-]?\d+(?:\.\d*)?(?:e[+-]?\d+)?"
ITEM = re.compile(rf"({TEXT})|({NUMBER})")
LIST = re.compile(rf"\[\s*(?:(?:{TEXT}|{NUMBER})(?:(?:\s*,\s*|\s+)(?:{TEXT}|{NUMBER}))*)?\s*\]")
ROWS_LOOKED_AT = 100  # before all cells of a column, which may not fit in memory, are read


def with_lists(dataset: Dataset) -> Dataset:
    """Return a dataset with lists where all cells of a column of texts are lists of texts or of numbers, or empty."""
    for name in [name for name, feature in dataset.features.items() if is_string(feature)]:
        first = raw_values(dataset.select(range(min(len(dataset), ROWS_LOOKED_AT))), name)
        if not _are_lists(first):
            continue
        lists = _lists(raw_values(dataset, name))
        if lists is not None:
            dataset = with_values(dataset, name, lists)
    return dataset


def _are_lists(cells: list[str | None]) -> bool:
    return all(cell is None or LIST.fullmatch(cell) for cell in cells)


def _lists(cells: list[str | None]) -> list[list[Any] | None] | None:
    """Return the list in each cell; None if a cell holds something else, or if texts and numbers occur together."""
    if not _are_lists(cells):
        return None
    try:
        lists = [None if cell is None else [_item(*match.groups()) for match in ITEM.finditer(cell)] for cell in cells]
    except (SyntaxError, ValueError):  # of an escape sequence that Python does not know
        return None
    kinds = {isinstance(item, str) for items in lists for item in items or ()}
    return lists if len(kinds) == 1 else None


def _item(text: str | None, number: str | None) -> Any:
    if text is not None:
        return literal_eval(text)
    return int(number or "") if re.fullmatch(r"[+-]?\d+", number or "") else float(number or "")
