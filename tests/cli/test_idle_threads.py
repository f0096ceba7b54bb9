"""Tests that the command line limits how long idle threads wait actively."""

import os

import pytest

from transfuse.__main__ import limit_idle_spinning


@pytest.mark.parametrize(
    ("given", "expected"),
    [({}, "1000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "active"}, None)],
)
def test_spinning_is_limited_unless_the_environment_says_it(
    given: dict[str, str], expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    limit_idle_spinning()
    assert os.environ.get("GOMP_SPINCOUNT") == expected
