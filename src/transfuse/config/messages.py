"""What is wrong with the value of an option, in a few words."""

from collections.abc import Mapping
from reprlib import Repr
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from transfuse.config.fields import literal_values
from transfuse.config.synonyms import nearest

SHORT = Repr()  # for values: a file of a few lines can hold one that would fill the memory
SHORT.maxlevel, SHORT.maxstring, SHORT.maxother = 2, 200, 200
ARGUMENTS = ("base",)  # of `fuse` and `match`, which are no fields of `Options`


def error_message(name: str, error: Mapping[str, Any], fields: Mapping[str, FieldInfo]) -> str:
    """Return what is wrong with an option, by the first error that pydantic found.

    Args:
        name: of the option, with a dot where it is nested.
        fields: the options beside it.
    """
    given = error["input"]
    plain = isinstance(given, str | bytes | int | float | list | tuple | dict | None)
    shown = SHORT.repr(given) if plain else f"a {type(given).__name__}"
    option = name.rpartition(".")[2]
    if isinstance(given, BaseModel) and option == "options":
        return "no such option; give its fields by name, as in **options.model_dump(exclude_unset=True)"
    if error["type"] == "extra_forbidden":
        known = dict.fromkeys((*fields, *(ARGUMENTS if "merge" in fields else ())))
        return f"no such option{_nearest(option, tuple(known))}"
    if error["type"] == "string_pattern_mismatch":
        return f"{shown} is not one of all, class, window-N (window-6: the central 6 x 6 patches)"
    if error["type"] == "literal_error":
        allowed = literal_values(fields[option].annotation)
        near = nearest(given, allowed) if isinstance(given, str) else None
        suggestion = f"; did you mean {near}?" if near else ""
        return f"{shown} is not one of {', '.join(allowed)}{suggestion}"
    message = error["msg"].removeprefix("Value error, ").removeprefix("Input ").replace("tuple", "list")
    return f"{message.partition(', ')[0]}, found {shown}"


def _nearest(name: str, known: tuple[str, ...]) -> str:
    near = nearest(name, known)
    return f"; did you mean {near!r}?" if near else f"; known: {', '.join(known)}"
