"""Text from outside in Markdown, with all special characters escaped, and templates that use it."""

import re
from html import escape

from jinja2 import Environment

from transfuse.base.counted import counted
from transfuse.base.printable import printable
from transfuse.base.shown_number import shown_number
from transfuse.config.data_options import GENERATED


def text(value: str) -> str:
    """Return plain text in one line, for a heading or a table cell."""
    return re.sub(r"([\\`*_{}\[\]()#+!|~])", r"\\\1", escape(printable(value), quote=False))


def code(value: str) -> str:
    """Return inline code for a table cell."""
    return f"<code>{escape(printable(value)).replace('|', '&#124;').replace('`', '&#96;')}</code>"


def data_and_split(source: str, split: str | None) -> str:
    """Return the name of data as inline code, and after it the split that was read, if there is one."""
    return f"{code(source)}, split {code(split)}" if split else code(source)


def fenced(value: str, language: str = "") -> str:
    """Return a code block, fenced by more backticks than the code holds in a row."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", value)), default=0))
    return f"{fence}{language}\n{value}\n{fence}"


def call_section(call: str) -> str:
    """Return the section that shows a command line, or a Python call."""
    title, language = ("Command", "bash") if call.startswith("transfuse ") else ("Call", "python")
    return f"## {title}\n\n{fenced(call, language)}"


def number(value: float | None) -> str:
    """Return a count, or a number with four digits after the point; nothing for None."""
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int) else shown_number(value, ".4f")


MARKDOWN = Environment(autoescape=False, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)
MARKDOWN.filters.update(
    text=text,
    code=code,
    data_and_split=data_and_split,
    fenced=fenced,
    call_section=call_section,
    number=number,
    counted=counted,
)
MARKDOWN.globals["GENERATED"] = GENERATED
