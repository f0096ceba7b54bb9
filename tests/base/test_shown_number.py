"""Numbers are shown without the sign of zero, and with an exponent if they are large or would look like zero."""

from math import inf, nan

import pytest

from transfuse.base.shown_number import shown_number


@pytest.mark.parametrize(
    ("value", "form", "shown"),
    [
        (0.25, ".2%", "25.00%"),
        (-1e-14, "+.4f", "+0.0000"),
        (0.0, ".4f", "0.0000"),
        (0.0000123, ".4f", "1.2e-05"),
        (-0.0000123, "+.4f", "-1.2e-05"),
        (0.0001, ".4f", "0.0001"),
        (0.0000123, ".2%", "0.00%"),
        (1.5, "+.4f", "+1.5000"),
        (12_300_000.0, ".4f", "1.2e+07"),
        (12_300_000.0, ".1%", "1.2e+09%"),
        (nan, "+.2%", "nan"),
        (-inf, ".4f", "-inf"),
    ],
)
def test_numbers(value: float, form: str, shown: str) -> None:
    assert shown_number(value, form) == shown


def test_what_counts_as_zero_can_be_said() -> None:
    assert [shown_number(value, ".4f", zero=1e-6) for value in (9.8e-8, 1.2e-5)] == ["0.0000", "1.2e-05"]
