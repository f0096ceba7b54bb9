"""Tables of keyword arguments, made of the models that declare them.

A page requests one by `<!-- options: transfuse.config.options.Options -->`.
"""

import re
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import Files
from mkdocs.structure.pages import Page
from pydantic import BaseModel

REQUEST = re.compile(r"<!-- options: ([\w.]+)\.(\w+) -->")
BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Put the tables where a page requests them."""
    return REQUEST.sub(lambda request: table(getattr(import_module(request[1]), request[2])), markdown)


def table(model: type[BaseModel]) -> str:
    """Return a row for every option: its values, its default, its meaning."""
    return "\n".join(["| option | values | default | meaning |", "|---|---|---|---|", *_rows(model)])


def _rows(model: type[BaseModel]) -> Iterator[str]:
    schemas = model.model_json_schema()["properties"]
    for name, field in model.model_fields.items():
        nested = field.annotation
        if isinstance(nested, type) and issubclass(nested, BaseModel):
            yield f"| `{name}` | `{nested.__name__}`, or a dictionary | its defaults | [below](#options-of-the-flow) |"
            continue
        default = schemas[name].get("default")
        shown = "" if default is None or default == [] else f"`{default}`"
        yield f"| `{name}` | {_values(schemas[name])} | {shown} | {_cell(field.description or '')} |"


def _values(schema: Mapping[str, Any]) -> str:
    """Return what a JSON schema allows, in a few words."""
    if "enum" in schema:
        return _cell(", ".join(f"`{value}`" for value in schema["enum"]))
    if "const" in schema:
        return f"`{schema['const']}`"
    if "anyOf" in schema:
        return " or ".join(_values(item) for item in schema["anyOf"] if item.get("type") != "null")
    if schema.get("type") == "array":
        return f"list of {_values(schema['items'])}"
    bounds = " ".join(f"{sign} {schema[name]}" for name, sign in BOUNDS.items() if name in schema)
    return _cell(f"{schema.get('type', '')} {bounds}".strip())


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "&#124;").replace("<", "&lt;")
