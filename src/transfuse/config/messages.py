"""What is wrong with an option, in a few words."""

from collections.abc import Mapping
from difflib import get_close_matches
from reprlib import Repr
from typing import Any, get_args

from pydantic.fields import FieldInfo

from transfuse.config.literals import Part

SHOWN = Repr()  # of a value: a file of a few lines can hold one that would fill the memory
SHOWN.maxlevel, SHOWN.maxstring, SHOWN.maxother = 2, 200, 200


def error_message(name: str, first: Mapping[str, Any], fields: Mapping[str, FieldInfo]) -> str:
    """What to say of an option, by the first error that pydantic found.

    Args:
        fields: the options there are.
    """
    shown = SHOWN.repr(first["input"])
    if first["type"] == "extra_forbidden":
        return f"no such option{_nearest(name, tuple(fields))}"
    if first["type"] == "string_pattern_mismatch":
        return f"{shown} is not one of all, class, window-N (window-6: the central 6 x 6 patches)"
    if first["type"] == "literal_error":
        allowed = get_args(Part if name == "keep" else fields[name].annotation)
        near = get_close_matches(str(first["input"])[:20], allowed, n=1) if isinstance(first["input"], str) else []
        suggestion = f"; did you mean {near[0]}?" if near else ""
        return f"{shown} is not one of {', '.join(allowed)}{suggestion}"
    what = first["msg"].removeprefix("Value error, ").removeprefix("Input ").replace("tuple", "list")
    return f"{what.partition(', ')[0]}, found {shown}"


def _nearest(name: str, known: tuple[str, ...]) -> str:
    near = get_close_matches(name.replace("-", "_"), known, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(known)}"
