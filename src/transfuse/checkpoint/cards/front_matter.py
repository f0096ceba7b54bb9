"""The front matter of a model card: the YAML at its top, which the Hub reads."""

import re
from collections.abc import Mapping
from typing import Any

import yaml

BLOCK = re.compile(r"\A(---[ \t]*\r?\n)(.*?)(^---[ \t]*\r?$)", re.DOTALL | re.MULTILINE)


def front_matter(card: str) -> dict[str, Any]:
    """Return the fields of a card's front matter; none if there is no front matter that can be read."""
    block = BLOCK.match(card)
    try:
        fields = yaml.safe_load(block[2]) if block else None
    except (yaml.YAMLError, RecursionError, ValueError):
        return {}
    return fields if isinstance(fields, dict) else {}


def as_front_matter(fields: Mapping[str, Any]) -> str:
    """Return fields as YAML, in their order and without line breaks inside of texts."""
    return yaml.safe_dump(dict(fields), sort_keys=False, allow_unicode=True, width=float("inf"))


def with_fields(card: str, fields: Mapping[str, Any]) -> str | None:
    """Return a card with other values of some fields. All other lines stay as they were written.

    Args:
        fields: the new values by name; None removes a field.

    Returns:
        The card; None if its front matter is missing or written in a way that cannot be edited line by line.
    """
    block = BLOCK.match(card)
    if block is None:
        return None
    lines = block[2]
    for name in fields:
        lines = re.sub(rf"^[\"']?{re.escape(name)}[\"']?:.*\n(?:(?:[ \t-].*)?\n)*", "", lines, flags=re.MULTILINE)
    present = {name: value for name, value in fields.items() if value is not None}
    lines += as_front_matter(present) if present else ""
    edited = f"{block[1]}{lines}{block[3]}{card[block.end() :]}"
    others = {name: value for name, value in front_matter(card).items() if name not in fields}
    return edited if front_matter(edited) == others | present else None
