"""Sizes are read in the units that people use; anything else is one clear error."""

import pytest

from transfuse.base.sizes import format_bytes, parse_bytes


@pytest.mark.parametrize(
    ("size", "count"),
    [("8GB", 8 * 10**9), ("1.5 MB", 1_500_000), ("2GiB", 2 * 2**30), ("12", 12), ("3k", 3000), (7, 7), (1e9, 10**9)],
)
def test_sizes_are_bytes(size: object, count: int) -> None:
    assert parse_bytes(size) == count


@pytest.mark.parametrize(
    "size", ["much", "8 apples", "-3", "1e9", "", None, True, [1], float("nan"), "9" * 400, "9" * 400 + "TB", "-5", -5]
)
def test_other_text_is_an_error(size: object) -> None:
    with pytest.raises(ValueError, match="should be a size such as 8GB or 500MB"):
        parse_bytes(size)


def test_format() -> None:
    assert [format_bytes(size) for size in (6.44e9, 5e6, 33_860)] == ["6.4 GB", "5 MB", "34 kB"]
