"""The types of option values, and how a field says what it means: its description is the help of its flag."""

from typing import Annotated, Any, get_args

from pydantic import AfterValidator, BeforeValidator, Field

from transfuse.base.folders import place
from transfuse.base.sizes import parse_bytes


def _number(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("should be a number")
    return value


def _list(value: object) -> object:
    """Split text such as `0.7,0.3`, which is how a flag gives a list."""
    return tuple(value.split(",")) if isinstance(value, str) else value


List = BeforeValidator(_list)
Place = Annotated[str, AfterValidator(place)]  # a file or folder
Memory = Annotated[int, BeforeValidator(parse_bytes), Field(ge=1)]
Count = Annotated[int, Field(ge=1, strict=True)]
Switch = Annotated[bool, Field(strict=True)]
Finite = Annotated[float, BeforeValidator(_number), Field(allow_inf_nan=False)]
Positive = Annotated[Finite, Field(gt=0)]
NotNegative = Annotated[Finite, Field(ge=0)]
Fraction = Annotated[Finite, Field(ge=0, le=1)]
Growth = Annotated[Finite, Field(gt=1, le=2)]


def literal_values(annotation: Any) -> list[str]:
    """Return the values of a literal type, or of a union of them."""
    values: list[str] = []
    for item in get_args(annotation):
        values += [item] if isinstance(item, str) else literal_values(item)
    return list(dict.fromkeys(values))


def option(default: Any, description: str, metavar: str | None = None, panel: str = "Options") -> Any:
    """Declare an option once: flags, help, YAML keys, defaults and the tables of the documentation are made of this.

    Args:
        metavar: what the help shows as the value of the flag; None: the values that the type allows.
        panel: the heading under which the help shows the flag.
    """
    return Field(default, description=description, json_schema_extra={"metavar": metavar, "panel": panel})
