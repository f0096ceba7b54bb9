"""Tables of keyword arguments, made from the models that check them and from the help of the flags of the same names.

A page asks for one by `<!-- options: transfuse.config.options.Options fuse -->`: the model, and the command whose
flags tell what each field means.
"""

import re
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import Files
from mkdocs.structure.pages import Page

from transfuse.cli import app

ASKED = re.compile(r"<!-- options: ([\w.]+)\.(\w+) (\w+) -->")
BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Put the tables where they are asked for."""
    return ASKED.sub(lambda found: table(getattr(import_module(found[1]), found[2]), found[3]), markdown)


def table(model: Any, command: str) -> str:
    """Every field of a pydantic model: what it may be, its default, what it means."""
    root: Any = typer.main.get_command(app)
    helps = {parameter.name: getattr(parameter, "help", None) or "" for parameter in root.commands[command].params}
    helps = {name.removeprefix("as_"): text for name, text in helps.items()}
    lines = ["| | values | default | |", "|---|---|---|---|"]
    for name, schema in model.model_json_schema()["properties"].items():
        default = schema.get("default")
        shown = "" if default is None or default == [] else f"`{default}`"
        lines.append(f"| `{name}` | {_values(schema)} | {shown} | {_cell(helps.get(name, ''))} |")
    return "\n".join(lines)


def _values(schema: Mapping[str, Any]) -> str:
    """What a JSON schema allows, in a few words."""
    if "enum" in schema:
        return _cell(", ".join(f"`{value}`" for value in schema["enum"]))
    if "const" in schema:
        return f"`{schema['const']}`"
    if "anyOf" in schema:
        return " or ".join(_values(each) for each in schema["anyOf"] if each.get("type") != "null")
    if schema.get("type") == "array":
        return f"list of {_values(schema['items'])}"
    bounds = " ".join(f"{sign} {schema[name]}" for name, sign in BOUNDS.items() if name in schema)
    return _cell(f"{schema.get('type', '')} {bounds}".strip())


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "&#124;").replace("<", "&lt;")
