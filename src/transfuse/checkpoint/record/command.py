"""The command, or the Python call, that makes a checkpoint again."""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from transfuse.config.layer_values import as_text
from transfuse.config.options import Options
from transfuse.config.shrink_options import ShrinkOptions

DATASET_IN_MEMORY = "dataset in memory"  # what the name of such data begins with, in messages and records
FUSE = "transfuse fuse"
CARRY = "transfuse carry"
SHRINK = "transfuse shrink"
IMPLIED = ("merge", "head", "teacher_weighting", "align", "settings")  # options that carrying chooses itself


def fuse_call(output: str, record: Mapping[str, Any]) -> str:
    """Return what makes the same model again: a command line, or a Python call if anything was passed in memory.

    Args:
        output: the folder to write.
        record: the content of `transfuse.json`.
    """
    paths = [model["path"] for model in record["models"]]
    samples = {} if record["data"] is None else {"data": record["data"]}
    base = {"base": record["base"]["path"]} if "base" in record else {}
    options = non_default_options(record)
    settings = [value for option in ("weights", "density") for value in record["options"].get(option) or ()]
    has_mapping = any(isinstance(value, Mapping) for value in settings)  # which no flag can hold
    if has_mapping or any(map(_is_in_memory, (*paths, *samples.values(), *base.values()))):
        models = ", ".join(_code(path, f"model_{index}") for index, path in enumerate(paths, 1))
        given = [f"data={_code(data, 'dataset')}" for data in samples.values()]
        given += [f"base={_code(path, 'base')}" for path in base.values()]
        return _python_call(FUSE, output, [f"[{models}]", *given], options)
    return _command_line(FUSE, output, paths, {**samples, **base, **_flat(options)})


def carry_call(output: str, record: Mapping[str, Any]) -> str:
    """Return what carries the same fine-tune again: a command line, or a Python call if anything was in memory.

    Args:
        output: the folder to write.
        record: the content of `transfuse.json`.
    """
    roles = {role: record["carried"][role] for role in ("base", "tuned", "new base")}
    samples = {name: record[name] for name in ("data", "keep") if record.get(name) is not None}
    options = {name: value for name, value in non_default_options(record).items() if name not in IMPLIED}
    if options.get("match_on") == ("both" if "data" in samples else "weights"):
        del options["match_on"]  # by default
    if any(map(_is_in_memory, (*roles.values(), *samples.values()))):
        models = [_code(path, role.replace(" ", "_")) for role, path in roles.items()]
        given = [f"{name}={_code(value, name)}" for name, value in samples.items()]
        return _python_call(CARRY, output, [*models, *given], options)
    return _command_line(CARRY, output, list(roles.values()), {**samples, **options})


def shrink_call(output: str, record: Mapping[str, Any]) -> str:
    """Return what makes the same model smaller again: a command line, or a Python call if anything was in memory.

    Args:
        output: the folder to write.
        record: the content of `transfuse.json`.
    """
    path, data = record["shrunk"]["path"], record["data"]
    options = _differences(record["options"], ShrinkOptions().model_dump(mode="json"))
    if _is_in_memory(path) or _is_in_memory(data):
        return _python_call(SHRINK, output, [_code(path, "model"), _code(data, "dataset")], options)
    if float(options.get("experts", 0)) >= 1:
        options["experts"] = int(options["experts"])  # a count; a share is below 1
    return _command_line(SHRINK, output, [path], {"data": data, **options})


def _is_in_memory(source: str | None) -> bool:
    """Return whether a recorded model or data was passed in memory."""
    return source is None or source.startswith(DATASET_IN_MEMORY)


def _code(source: str | None, name: str) -> str:
    """Return a recorded model or data as Python code: a path, or the name of what was passed in memory."""
    return name if _is_in_memory(source) else repr(source)


def _python_call(command: str, output: str, given: Sequence[str], options: Mapping[str, Any]) -> str:
    """Return the call that does what a command does.

    Args:
        given: models and data, as code.
    """
    arguments = ", ".join([*given, *(f"{name}={value!r}" for name, value in options.items())])
    return f"{command.replace(' ', '.')}({arguments}).save({output!r})"


def _command_line(command: str, output: str, paths: Sequence[str], values: Mapping[str, Any]) -> str:
    words = [*command.split(), *map(_not_a_flag, paths), "-o", _not_a_flag(output)]
    return shlex.join(words + _flags(values))


def _flags(values: Mapping[str, Any]) -> list[str]:
    """Return options as flags with their values."""
    words = []
    for name, value in values.items():
        text = ",".join(map(as_text, value)) if isinstance(value, list | tuple) else str(value)
        flag = f"--{name.replace('_', '-')}"
        words += [flag] if value is True else [flag, text]
    return words


def non_default_options(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a record that differ from their defaults.

    How models were aligned is always one of them, unless they share a base and nobody chose: models of one base are
    aligned only if that is said.
    """
    different = _differences(record["options"], Options().model_dump(mode="json", exclude={"align"}))
    if "shared_base" in record:
        different.pop("align", None)
    return different


def _differences(options: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that differ from `defaults`; of nested options, those that do."""
    different: dict[str, Any] = {}
    for name, value in options.items():
        if isinstance(value, Mapping):
            if nested := _differences(value, defaults.get(name) or {}):
                different[name] = nested
        elif value != defaults.get(name):
            different[name] = value
    return different


def _flat(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested options under dotted names, as flags spell them: flow.plan."""
    flat: dict[str, Any] = {}
    for name, value in options.items():
        if isinstance(value, Mapping):
            flat |= {f"{name}.{nested}": setting for nested, setting in value.items()}
        else:
            flat[name] = value
    return flat


def _not_a_flag(path: str) -> str:
    return f"./{path}" if path.startswith("-") else path
