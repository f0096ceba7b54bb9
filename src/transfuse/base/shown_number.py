"""Numbers as people read them."""

from math import isnan

LARGE = 1e6  # from here on, the exponent says more than the digits


def shown_number(value: float, form: str) -> str:
    """Return a number in a format, such as "+.4f" or ".2%": without the sign of zero, and if large with an exponent."""
    if isnan(value):
        return "nan"
    sign = "+" if form.startswith("+") else ""
    if abs(value) < LARGE:
        return format(value, sign + "z" + form.removeprefix("+"))
    return format(100 * value, sign + ".2g") + "%" if form.endswith("%") else format(value, sign + ".2g")
