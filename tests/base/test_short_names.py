"""Short names of paths: no longer than it takes to tell them apart."""

import pytest

from transfuse.base.short_names import short_names


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["/models/a", "/models/b"], ["a", "b"]),
        (["/runs/1/final", "/runs/2/final"], ["1/final", "2/final"]),
        (["/x/a", "/x/a"], ["a", "a"]),
        (["org/name", "/cache/name"], ["org/name", "cache/name"]),
        (["a/b/c/d", "name"], ["d", "name"]),
        (["/final", "/runs/final"], ["//final", "runs/final"]),
        (["", "/"], ["", "/"]),
    ],
)
def test_names(paths: list[str], names: list[str]) -> None:
    assert short_names(paths) == names
