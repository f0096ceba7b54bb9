"""The command, or the Python call, that makes a checkpoint again."""

import shlex
from collections.abc import Mapping
from typing import Any

from transfuse.config.layer_values import as_text
from transfuse.config.options import Options
from transfuse.config.shrink_options import ShrinkOptions

DATASET_IN_MEMORY = "dataset in memory"  # what the name of such data begins with, in messages and records
COMMAND = "transfuse fuse"
CARRY = "transfuse carry"
SHRINK = "transfuse shrink"
IMPLIED = ("merge", "head", "teacher_weighting", "align")  # options that carrying chooses itself


def reproducing_call(output: str, record: Mapping[str, Any]) -> str:
    """Return what makes the same model again: a command line, or a Python call if anything was passed in memory.

    Args:
        output: the folder to write.
        record: the content of `transfuse.json`.
    """
    in_memory = any(model["path"] is None for model in (*record["models"], record.get("base", {"path": ""})))
    in_memory = in_memory or str(record["data"]).startswith(DATASET_IN_MEMORY)
    settings = [value for option in ("weights", "density") for value in record["options"].get(option) or ()]
    in_python = in_memory or any(isinstance(value, Mapping) for value in settings)  # no flag can hold a mapping
    return _python_call(output, record) if in_python else command_line(output, record)


def command_line(output: str, record: Mapping[str, Any]) -> str:
    """Return the command line that makes the same model again."""
    paths = [model["path"] for model in record["models"]]
    if any(path.startswith("-") for path in (*paths, output)):
        paths = [_not_a_flag(path) for path in paths]
        output = _not_a_flag(output)
    words = [*COMMAND.split(), *paths, "-o", output]
    if record["data"] is not None:
        words += ["--data", record["data"]]
    if "base" in record:
        words += ["--base", record["base"]["path"]]
    return shlex.join(words + _flags(_flat(non_default_options(record))))


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
    if None in roles.values() or any(value.startswith(DATASET_IN_MEMORY) for value in samples.values()):
        models = [repr(path) if path else role.replace(" ", "_") for role, path in roles.items()]
        given = [
            f"{name}={name if value.startswith(DATASET_IN_MEMORY) else repr(value)}" for name, value in samples.items()
        ]
        arguments = ", ".join([*models, *given, *(f"{name}={value!r}" for name, value in options.items())])
        return f"transfuse.carry({arguments}).save({output!r})"
    words = [*CARRY.split(), *map(_not_a_flag, roles.values()), "-o", _not_a_flag(output)]
    return shlex.join(words + _flags({**samples, **options}))


def shrink_call(output: str, record: Mapping[str, Any]) -> str:
    """Return what makes the same model smaller again: a command line, or a Python call if anything was in memory.

    Args:
        output: the folder to write.
        record: the content of `transfuse.json`.
    """
    path, data = record["shrunk"]["path"], record["data"]
    options = _differences(record["options"], ShrinkOptions().model_dump(mode="json"))
    in_memory = data.startswith(DATASET_IN_MEMORY)
    if path is None or in_memory:
        given = [repr(path) if path else "model", "dataset" if in_memory else repr(data)]
        arguments = ", ".join([*given, *(f"{name}={value!r}" for name, value in options.items())])
        return f"transfuse.shrink({arguments}).save({output!r})"
    if float(options.get("experts", 0)) >= 1:
        options["experts"] = int(options["experts"])  # a count; a share is below 1
    words = [*SHRINK.split(), _not_a_flag(path), "-o", _not_a_flag(output)]
    return shlex.join(words + _flags({"data": data, **options}))


def _flags(values: Mapping[str, Any]) -> list[str]:
    """Return options as flags with their values."""
    words = []
    for name, value in values.items():
        text = ",".join(map(as_text, value)) if isinstance(value, list | tuple) else str(value)
        flag = f"--{name.replace('_', '-')}"
        words += [flag] if value is True else [flag, text]
    return words


def _python_call(output: str, record: Mapping[str, Any]) -> str:
    """Return the call that makes the same model again, given what was passed in memory."""
    models = ", ".join(
        repr(model["path"]) if model["path"] else f"model_{index}" for index, model in enumerate(record["models"], 1)
    )
    data = record["data"]
    source = ""
    if data is not None:
        source = "data=dataset" if data.startswith(DATASET_IN_MEMORY) else f"data={data!r}"
    if "base" in record:
        base = record["base"]["path"]
        source = ", ".join(filter(None, [source, f"base={repr(base) if base else 'base'}"]))
    options = [f"{option}={value!r}" for option, value in non_default_options(record).items()]
    arguments = ", ".join(filter(None, [f"[{models}]", source, *options]))
    return f"transfuse.fuse({arguments}).save({output!r})"


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
