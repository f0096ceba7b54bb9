"""The card of a model that was made smaller says what was done, and the summary names the unit of the loss."""

from typing import Any

import pytest

from transfuse.checkpoint.cards.shrunk import shrunk_card
from transfuse.config.shrink_options import ShrinkOptions
from transfuse.report.tables import shrinking_summary

LARGE = {"hidden_size": 16, "layers": 3, "intermediate_size": 32, "heads": 4, "kv_heads": 2, "experts": 4}


def record(**small: int) -> dict[str, Any]:
    return {
        "shrunk": {"path": "large", "architecture": "MixtralForCausalLM"},
        "options": ShrinkOptions().model_dump(mode="json"),
        "sizes": {"large": LARGE, "small": LARGE | small},
        "parameters": {"large": 100, "small": 50},
        "blocks": [0, 2][: small.get("layers", 2)],
        "experts": {f"model.layers.{block}.mlp.experts": {"kept": [3, block], "error": 0.1} for block in range(3)},
        "data": "texts.txt",
        "calibration_samples": 9,
        "seconds": 1.0,
    }


CHOSEN = {
    "layers": "changed the predictions least were removed. These stayed (counted from 0): 0, 2.",
    "experts": "those with the smallest outputs. These stayed (counted from 0): 0, 3 in block 0; 2, 3 in block 2.",
    "hidden_size": "The leading directions of the residual stream were kept",
    "intermediate_size": "Hidden units were chosen by least squares.",
    "heads": "Attention heads were chosen by least squares.",
}


@pytest.mark.parametrize("name", CHOSEN)
def test_the_card_says_what_was_done_and_nothing_else(name: str) -> None:
    card = shrunk_card("out", record(**{name: 2}))
    assert [other for other, sentence in CHOSEN.items() if sentence in card] == [name]
    assert "Every layer was fitted to what the large model computes." in card


def test_a_relative_loss_is_not_given_in_nats() -> None:
    history = {"best": 5, "excess": [2.0, 1.5]}
    relative = history | {"unit": "of the targets' variance"}
    line = shrinking_summary("out", record(layers=2) | {"learned_weights": relative})
    assert "1.500 of the targets' variance above the large model on" in line
    assert "1.500 nats above" in shrinking_summary("out", record(layers=2) | {"learned_weights": history})


def test_one_step_is_not_called_steps() -> None:
    trained = record(layers=2) | {"learned_weights": {"best": 1, "excess": [2.0, 1.5]}}
    assert "for 1 step." in " ".join(shrunk_card("out", trained).split())
    assert "trained in 1 step," in shrinking_summary("out", trained)
    assert "1 sample," in shrinking_summary("out", trained | {"calibration_samples": 1})
