"""Numbers as people read them."""

from math import isnan

LARGE = 1e6  # from here on, the exponent says more than the digits
ROUNDING = 1e-12  # what is smaller is zero, up to rounding


def shown_number(value: float, form: str, zero: float = ROUNDING) -> str:
    """Return a number in a format, such as "+.4f" or ".2%".

    Zero has no sign. Numbers have an exponent if they are large, or if the format would show them as zero. Percentages
    have one only if they are large.

    Args:
        zero: the size up to which a number may be shown as zero.
    """
    if isnan(value):
        return "nan"
    sign = "+" if form.startswith("+") else ""
    if abs(value) < LARGE:
        shown = format(value, sign + "z" + form.removeprefix("+"))
        is_lost = abs(value) > zero and not shown.strip("+0.")  # never of a percentage
        return format(value, sign + ".2g") if is_lost else shown
    return format(100 * value, sign + ".2g") + "%" if form.endswith("%") else format(value, sign + ".2g")
