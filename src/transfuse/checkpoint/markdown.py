"""Names in Markdown, whatever they hold."""

import re
from html import escape

from transfuse.base.printable import printable


def text(value: str) -> str:
    """Plain text in one line, for a heading or a cell of a table."""
    return re.sub(r"([\\`*_{}\[\]()#+!|~])", r"\\\1", escape(printable(value), quote=False))


def code(value: str) -> str:
    """Code in a cell of a table."""
    return f"<code>{escape(printable(value)).replace('|', '&#124;').replace('`', '&#96;')}</code>"


def fenced(value: str) -> str:
    """A block of code."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", value)), default=0))
    return f"{fence}\n{value}\n{fence}"
