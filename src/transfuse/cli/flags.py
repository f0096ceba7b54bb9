"""Make flags of the options that `transfuse.config` declares, with their names, help texts, defaults and values."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import wraps
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import Annotated, Any, TypeAlias, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from typer import Argument, Option

from transfuse.base.folders import expanded
from transfuse.cli.command import HelpAll
from transfuse.cli.output import output_mode
from transfuse.config.data_options import DataOptions
from transfuse.config.fields import Memory, literal_values
from transfuse.config.labels import MODELS

FlagValues: TypeAlias = Mapping[str, Any]  # by parameter name; None: the flag is not set
SHORT = {"output": "-o"}
LAST = ("config", "resume")  # parameters that the help shows after the options
READING = tuple(DataOptions.model_fields)  # options of every command that reads data
FLOW = "flow"  # the option whose value has the options of the flow


def _place(path: Path | None) -> Path | None:
    return path and expanded(path)


# Arguments and flags of several commands that are not options of a configuration file.
Models = Annotated[list[str], Argument(metavar="MODEL", help="Checkpoint folders or Hub names.")]
Limit = Annotated[
    int | None, Option(min=1, metavar="COUNT", help="Measure on this many samples only, drawn with --seed.")
]
Plot = Annotated[Path | None, Option(metavar="FILE", callback=_place, help="A .png or .svg plot to write.")]
Json = Annotated[bool, Option("--json", help="Print one JSON document on stdout.")]
Quiet = Annotated[bool, Option("--quiet", "-q", help="Print nothing but errors.")]
Resume = Annotated[bool, Option("--resume", help="Continue an interrupted run with the same OUT.")]


def takes_options(
    *groups: tuple[type[BaseModel], Sequence[str]],
    everyday: Sequence[str] = (),
    helps: Mapping[str, str] = {},
    metavars: Mapping[str, str] = {},
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command a flag for each named option, --json, --quiet and, if --help leaves options out, --help-all.

    The command receives the values of the options as `flags`, and what --json and --quiet select as `mode`.

    Args:
        groups: classes of options, each with the names of its options; `flow` stands for all options of the flow.
        everyday: the options that `--help` shows; only `--help-all` shows the others. Empty: `--help` shows all.
        helps: help texts that replace the description of an option, by name.
        metavars: values that the command takes, where it takes fewer than the option has.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        flags = [_flag(*field, everyday, helps, metavars) for model, names in groups for field in _fields(model, names)]
        own = [each for name, each in signature(command).parameters.items() if name not in ("flags", "mode")]
        first = [parameter for parameter in own if parameter.name not in LAST]
        last = [parameter for parameter in own if parameter.name in LAST]
        shared = [_switch("as_json", Json), _switch("quiet", Quiet)]
        parameters = [*first, *flags, *last, *([_switch("help_all", HelpAll)] if everyday else []), *shared]

        @wraps(command)
        def run(as_json: bool, quiet: bool, help_all: bool = False, **passed: Any) -> None:
            values = {flag.name: passed.pop(flag.name) for flag in flags}
            command(flags=values, mode=output_mode(as_json, quiet), **passed)

        run.__signature__ = Signature(  # type: ignore[attr-defined]
            [parameter.replace(kind=Parameter.KEYWORD_ONLY) for parameter in parameters]
        )
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return run

    return decorate


def named_values(flags: FlagValues) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the options that are set, those of the flow nested, and the spelling of each in messages."""
    values: dict[str, Any] = {}
    labels = {"models": MODELS}
    for name, value in flags.items():
        if value in (None, (), []):
            continue
        if name.startswith(f"{FLOW}_"):
            option = name.removeprefix(f"{FLOW}_")
            values.setdefault(FLOW, {})[option] = value
            labels[f"{FLOW}.{option}"] = _spelling(name)
        else:
            values[name] = value
            labels.setdefault(name, _spelling(name))  # models are no flag
    return values, labels


def _fields(model: type[BaseModel], names: Sequence[str]) -> Iterator[tuple[str, FieldInfo]]:
    """Yield name and field of each option; nested options are yielded one by one."""
    for name in names:
        field = model.model_fields[name]
        nested = field.annotation
        if isinstance(nested, type) and issubclass(nested, BaseModel):
            yield from ((f"{name}_{inner}", inner_field) for inner, inner_field in nested.model_fields.items())
        else:
            yield name, field


def _flag(
    name: str, field: FieldInfo, everyday: Sequence[str], helps: Mapping[str, str], metavars: Mapping[str, str]
) -> Parameter:
    """Return the parameter of a command that sets an option."""
    extra: Any = field.json_schema_extra or {}
    is_switch = field.annotation is bool
    values = literal_values(field.annotation)
    description = helps.get(name, field.description or "")
    if not is_switch and field.default not in (None, ()) and "Default" not in description:
        description += f" Default: {field.default}."
    option = Option(
        *[_spelling(name), *([SHORT[name]] if name in SHORT else [])],
        metavar=None if is_switch else metavars.get(name) or extra.get("metavar") or "|".join(values),
        help=description,
        rich_help_panel=extra.get("panel") if everyday and name not in everyday else None,
    )
    number = next((kind for kind in (int, float) if _includes(field.annotation, kind)), str)
    value_type = bool if is_switch else number
    return Parameter(name, Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[value_type | None, option])


def _switch(name: str, annotation: Any) -> Parameter:
    """Return the parameter of a command that is off by default."""
    return Parameter(name, Parameter.KEYWORD_ONLY, default=False, annotation=annotation)


def _spelling(name: str) -> str:
    """Return the flag of an option: --batch-size, --flow.plan."""
    nested = name.startswith(f"{FLOW}_")
    return f"--{name.replace('_', '.', 1).replace('_', '-')}" if nested else f"--{name.replace('_', '-')}"


def _includes(annotation: Any, kind: type) -> bool:
    """Return whether a type is a kind of number or a union that includes it; lists and sizes such as 8GB are not."""
    if annotation == Memory:
        return False
    if annotation is kind:
        return True
    origin = getattr(annotation, "__origin__", None)
    return origin is not tuple and any(_includes(item, kind) for item in get_args(annotation))
