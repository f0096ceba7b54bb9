"""The model card is valid and says how to make the model again, whatever the names hold."""

import shlex
from typing import Any

import pytest
import yaml

from transfuse.checkpoint.card import model_card
from transfuse.checkpoint.command import command_line
from transfuse.config.options import Options

ODD = [
    "it's",
    'say "hi"',
    "two\nlines",
    "ünï — 漢字",
    "a: b # c",
    "--- ",
    "`tick` ```",
    "a\n```\nb",
    "{{ 7 * 7 }}",
    "a|b",
    "<b>&",
    "-x",
    "[l](u)",
]


def record(paths: list[str | None], data: str | None = None, **options: Any) -> dict[str, Any]:
    return {
        "models": [
            {"path": path, "weight": 1 / len(paths), "architecture": "ViTForImageClassification"} for path in paths
        ],
        "options": Options(**options).model_dump(mode="json"),
        "match_on": "weights",
        "merge": "mean",
        "data": data,
    }


def front(card: str) -> dict[str, Any]:
    """The front matter, as the hub finds it."""
    start, header, _ = card.split("---\n", 2)
    assert start == ""
    found = yaml.safe_load(header)
    assert isinstance(found, dict)
    return found


def fences(card: str) -> list[str]:
    """Contents of the blocks of code; a fence inside that would end one early makes more of them."""
    blocks, inside, fence = [], [], ""
    for line in card.splitlines():
        if fence and line == fence.rstrip("abcdefghijklmnopqrstuvwxyz"):
            blocks.append("\n".join(inside))
            inside, fence = [], ""
        elif fence:
            inside.append(line)
        elif line.startswith("```"):
            fence = line
    assert not fence
    return blocks


def test_front_matter_tells_the_hub_what_this_is() -> None:
    found = front(model_card("out", record(["a", "org/b"], align="flow")))
    assert found == {
        "library_name": "transformers",
        "pipeline_tag": "image-classification",
        "base_model": ["a", "org/b"],
        "base_model_relation": "merge",
        "tags": ["transfuse", "merge", "align-flow", "merge-mean"],
    }


@pytest.mark.parametrize("odd", ODD)
def test_odd_names_stay_what_they_are(odd: str) -> None:
    card = model_card(odd, record([odd, "b"], data=odd))
    assert front(card)["base_model"] == ["b"], "what is no name on the Hub"
    (block,) = fences(card)
    words = shlex.split(block)
    plain = f"./{odd}" if odd.startswith("-") else odd
    assert words == ["transfuse", "fuse", plain, "b", "-o", plain, "--data", odd]
    body = card.split("---\n", 2)[2]
    rows = [line for line in body.splitlines() if line.startswith("|")]
    assert len(rows) == 4, "a name broke the table"
    assert {line.count("|") for line in rows} == {4}
    (title,) = [line for line in body.splitlines() if line.startswith("# ")]
    assert len(title) > 2


@pytest.mark.parametrize(
    ("options", "due"),
    [
        ({}, []),
        ({"align": "exact", "batch_size": 100}, []),
        ({"align": "none"}, ["--align", "none"]),
        (
            {"align": "flow", "flow": {"plan": "soft", "regularization": 0.06}},
            ["--align", "flow", "--flow.regularization", "0.06"],
        ),
        ({"weights": (0.1, 2)}, ["--weights", "0.1,2.0"]),
        ({"align": "flow", "flow": {"keep": ("norms", "ffn")}}, ["--align", "flow", "--flow.keep", "norms,ffn"]),
        ({"samples": 9, "batch_size": 3, "seed": 1}, ["--batch-size", "3", "--seed", "1", "--samples", "9"]),
        ({"dtype": "float16", "allow_pickle": True}, ["--allow-pickle", "--dtype", "float16"]),
    ],
    ids=str,
)
def test_the_command_names_what_differs_from_the_defaults(options: dict[str, Any], due: list[str]) -> None:
    assert shlex.split(command_line("out", record(["a", "b"], **options)))[6:] == due


def test_a_record_of_an_earlier_version_gives_current_flags() -> None:
    earlier = record(["a", "b"]) | {"options": {"align": "flow", "evidence": "weights", "plan": "hard", "seed": 0}}
    due = ["--align", "flow", "--match-on", "weights", "--flow.plan", "hard"]
    assert shlex.split(command_line("out", earlier))[6:] == due


def test_the_split_that_was_taken_is_not_part_of_the_source() -> None:
    assert command_line("out", record(["a", "b"], data="my data (split train)")).endswith("--data 'my data'")
    assert command_line("out", record(["a", "b"], data="data (old)")).endswith("--data 'data (old)'")


def test_what_was_in_memory_is_a_call_not_a_command() -> None:
    card = model_card("out", record([None, "b's"], align="flow", weights=(1, 3)))
    assert "base_model" not in front(card)
    assert "passed in memory (anchor)" in card
    assert fences(card) == ["transfuse.fuse([model_1, \"b's\"], align='flow', weights=[1.0, 3.0]).save('out')"]
    card = model_card("out", record(["a", "b"], data="dataset in memory (split train)"))
    assert fences(card) == ["transfuse.fuse(['a', 'b'], data=dataset).save('out')"]
    assert "base_model" not in front(model_card("out", record([None, None])))


def test_metrics_are_listed_where_there_are_any() -> None:
    metrics = {
        "test": {"accuracy": 0.51234, "loss": 1.25, "samples": 400},
        "items": {"accuracy": 1.0, "loss": 0.0, "samples": 1},
    }
    card = model_card("out", record(["a", "b"]) | {"metrics": metrics})
    assert "| test | 0.5123 | 1.2500 | 400 |" in card
    assert "| items | 1.0000 | 0.0000 | 1 |" in card
    assert "Measured" not in model_card("out", record(["a", "b"]))
