"""Text from outside in Markdown, with all special characters escaped."""

import re
from html import escape

from transfuse.base.printable import printable


def text(value: str) -> str:
    """Return plain text in one line, for a heading or a table cell."""
    return re.sub(r"([\\`*_{}\[\]()#+!|~])", r"\\\1", escape(printable(value), quote=False))


def code(value: str) -> str:
    """Return inline code for a table cell."""
    return f"<code>{escape(printable(value)).replace('|', '&#124;').replace('`', '&#96;')}</code>"


def fenced(value: str) -> str:
    """Return a code block, fenced by more backticks than the code holds in a row."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", value)), default=0))
    return f"{fence}\n{value}\n{fence}"
