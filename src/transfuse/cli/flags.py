"""Flags made of the options that `transfuse.config` declares: name, help, default and values are written there once."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import wraps
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import Annotated, Any, TypeAlias, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from typer import Argument, Option

from transfuse.config.fields import Memory

Values: TypeAlias = Mapping[str, Any]
SHORT = {"output": "-o"}
LAST = ("config", "resume", "help_all", "as_json", "quiet")  # parameters that the help shows last
FLOW = "flow"  # the option that holds those of the flow

# Arguments and flags of several commands that are no options of a configuration file.
Models = Annotated[list[str], Argument(metavar="MODEL", help="Checkpoint folders or Hub names.")]
Data = Annotated[str | None, Option("--data", metavar="DATA", help="Labeled samples (texts, for a language model).")]
Limit = Annotated[
    int | None, Option(min=1, metavar="COUNT", help="Measure on this many samples only, drawn by --seed.")
]
Plot = Annotated[Path | None, Option(metavar="FILE", help="A .png or .svg plot to write.")]
Json = Annotated[bool, Option("--json", help="Print one JSON document on stdout.")]
Quiet = Annotated[bool, Option("--quiet", "-q", help="Print nothing but errors.")]
Resume = Annotated[bool, Option("--resume", help="Continue a run into the same OUT that was interrupted.")]


def takes_options(
    *groups: tuple[type[BaseModel], Sequence[str]], everyday: Sequence[str] = (), helps: Mapping[str, str] | None = None
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command a flag for each named option; the command gets their values as `given`.

    Args:
        groups: models, and the names of their options; `flow` stands for all options of the flow.
        everyday: the options that `--help` shows; `--help-all` shows the others too, by panels. Empty: it shows all.
        helps: help that differs from the description of the option.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        made = [_flag(*field, everyday, helps or {}) for model, names in groups for field in _fields(model, names)]
        own = [each for each in signature(command).parameters.values() if each.name != "given"]
        last = [each for each in own if each.name in LAST]
        parameters = [*(each for each in own if each not in last), *made, *last]

        @wraps(command)
        def run(**passed: Any) -> None:
            command(given={each.name: passed.pop(each.name) for each in made}, **passed)

        run.__signature__ = Signature(  # type: ignore[attr-defined]
            [each.replace(kind=Parameter.KEYWORD_ONLY) for each in parameters]
        )
        run.__annotations__ = {each.name: each.annotation for each in parameters}
        return run

    return decorate


def named_values(given: Values) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the options that were given, those of the flow nested, and how a message names each."""
    values: dict[str, Any] = {}
    labels = {"models": "MODELS"}
    for name, value in given.items():
        if value in (None, (), []):
            continue
        if name.startswith(f"{FLOW}_"):
            option = name.removeprefix(f"{FLOW}_")
            values.setdefault(FLOW, {})[option] = value
            labels[f"{FLOW}.{option}"] = _spelled(name)
        else:
            values[name] = value
            labels[name] = _spelled(name)
    return values, labels


def _fields(model: type[BaseModel], names: Sequence[str]) -> Iterator[tuple[str, FieldInfo]]:
    for name in names:
        field = model.model_fields[name]
        nested = field.annotation
        if isinstance(nested, type) and issubclass(nested, BaseModel):
            yield from ((f"{name}_{inner}", each) for inner, each in nested.model_fields.items())
        else:
            yield name, field


def _flag(name: str, field: FieldInfo, everyday: Sequence[str], helps: Mapping[str, str]) -> Parameter:
    """Return the parameter of a command for an option."""
    extra: Any = field.json_schema_extra or {}
    switch = field.annotation is bool
    values = _values(field.annotation)
    description = helps.get(name, field.description or "")
    if not switch and field.default not in (None, ()) and "Default" not in description:
        description += f" Default: {field.default}."
    option = Option(
        *[_spelled(name), *([SHORT[name]] if name in SHORT else [])],
        metavar=None if switch else extra.get("metavar") or "|".join(values),
        help=description,
        rich_help_panel=extra.get("panel") if everyday and name not in everyday else None,
    )
    kind = bool if switch else next((number for number in (int, float) if _holds(field.annotation, number)), str)
    return Parameter(name, Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, option])


def _spelled(name: str) -> str:
    """Return the flag of an option: --batch-size, --flow.plan."""
    nested = name.startswith(f"{FLOW}_")
    return f"--{name.replace('_', '.', 1).replace('_', '-')}" if nested else f"--{name.replace('_', '-')}"


def _values(annotation: Any) -> list[str]:
    """Return the values of a literal type, or of a union of them."""
    found: list[str] = []
    for item in get_args(annotation):
        found += [item] if isinstance(item, str) else _values(item)
    return list(dict.fromkeys(found))


def _holds(annotation: Any, kind: type) -> bool:
    """Return whether a type is a kind of number, alone or as one of a union; lists and sizes such as 8GB are not."""
    if annotation == Memory:
        return False
    if annotation is kind:
        return True
    origin = getattr(annotation, "__origin__", None)
    return origin is not tuple and any(_holds(item, kind) for item in get_args(annotation))
