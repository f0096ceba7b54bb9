"""Build options from values, or say in one line which one is wrong, and why."""

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from transfuse.config.labels import Labels, label
from transfuse.config.messages import error_message
from transfuse.errors import ConfigError

Chosen = TypeVar("Chosen", bound=BaseModel)


def make(kind: type[Chosen], values: Mapping[str, Any], labels: Labels | None = None) -> Chosen:
    """Build options of a kind from `values`.

    Args:
        values: by name; those of nested options as a mapping, or as an instance. Numbers may be those of NumPy or
            torch.
        labels: how a message names each option ("--align", "job.yaml, line 3: align", "--flow.plan"); else its name.

    Raises:
        ConfigError: an unknown option, a value that it cannot have, or options that contradict each other.
    """
    labels = labels or {}
    try:
        chosen = kind(**_plain(values))
    except ValidationError as error:
        first = error.errors()[0]
        name, fields, item = _located(kind, [str(part) for part in first["loc"]])
        raise ConfigError(f"{label(labels, name)}:{item} {error_message(name, first, fields)}") from error
    chosen.check(labels)  # type: ignore[attr-defined]
    return chosen


def _plain(value: Any, levels: int = 3) -> Any:
    """Return numbers and arrays of NumPy and torch as numbers and lists of Python. Other values stay as they are.

    Args:
        levels: how deep lists are read, because files can name one list many times inside another.
    """
    if levels and isinstance(value, Mapping):
        return {name: _plain(entry, levels - 1) for name, entry in value.items()}
    if levels and type(value) in (list, tuple):
        return type(value)(_plain(entry, levels - 1) for entry in value)
    return value.tolist() if hasattr(value, "tolist") and hasattr(value, "dtype") else value


def _located(kind: type[BaseModel], parts: list[str]) -> tuple[str, Mapping[str, Any], str]:
    """Return the dotted name of the option at a location, the options beside it, and the item of a list, if any."""
    fields = kind.model_fields
    name = parts[0]
    nested = fields[name].annotation if name in fields else None
    if len(parts) > 1 and isinstance(nested, type) and issubclass(nested, BaseModel):
        fields = nested.model_fields
        name = f"{name}.{parts[1]}"
    item = f" item {int(parts[-1]) + 1}" if len(parts) > 1 and parts[-1].isdigit() else ""
    return name, fields, item
