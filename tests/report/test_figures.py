"""What the captions of figures say."""

from types import SimpleNamespace
from typing import Any

import pytest

from transfuse.report import figures

SELECTED = "The step with the lowest loss was selected."


@pytest.mark.parametrize(
    ("found", "is_selected"),
    [({}, True), ({"reached": 0.5}, True), ({"reached": 0.4}, False), ({"reached": 0.5, "refitted": True}, False)],
    ids=["former version", "lowest", "another start", "fitted again"],
)
def test_the_curve_of_the_training_says_what_was_selected(found: dict[str, Any], is_selected: bool) -> None:
    history = {"excess": [1.0, 0.5, 0.7], "validated": [0, 5, 10], "steps": 10, "best": 5} | found
    facts: Any = SimpleNamespace(record={"learned_weights": history})
    figure = figures._training(facts)
    assert figure is not None
    assert (SELECTED in figure.caption) == is_selected
