"""The model card is valid and says how to make the model again, whatever the names hold."""

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard

from transfuse.checkpoint.cards.card import finetuned_card, model_card
from transfuse.checkpoint.cards.quality import MeasuredValues, Quality, quality_section, with_quality
from transfuse.checkpoint.record.command import fuse_call
from transfuse.config.options import Options
from transfuse.evaluation.metrics import Metrics
from transfuse.evaluation.statistics import Intervals
from transfuse.report.card import report_quality
from transfuse.report.facts import Measurement, Row

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


EXACT = ["--align", "exact"]  # stands in every command of a fusion that aligned so


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


def test_weights_of_task_vectors_and_layers_stand_there_as_given() -> None:
    """Their shares of the whole would be numbers that the merge did not use."""
    parents = record(["a", "b"], merge="ties", weights=[0.4, 0.3])
    assert "(anchor) | 0.5 |" in model_card("out", parents)
    assert "(anchor) | 0.4 |" in model_card("out", parents | {"base": {"path": "base"}})
    gradients = model_card("out", record(["a", "b"], weights=[(0.2, 0.8), {"mlp": 1, "*": 0}]))
    assert "(anchor) | 0.2:0.8 |" in gradients
    assert "| by layer |" in gradients


def test_models_of_one_base_are_said_to_share_it() -> None:
    shared = record(["a", "b"], align="none") | {"shared_base": {"correlation": 0.9}}
    assert "* Alignment: The models share a base" in model_card("out", shared)
    assert "* Alignment: The units of the models were not matched." in model_card("out", record(["a"], align="none"))


def test_one_model_with_its_base_is_no_fusion() -> None:
    one = record(["tuned"], align="none") | {"shared_base": {"correlation": 1.0}, "base": {"path": "base"}}
    card = model_card("out", one | {"merge": "task-arithmetic"})
    start = "This model is <code>tuned</code>, with its difference from its base changed. It was made with transfuse."
    assert start in " ".join(card.split())
    assert "* Alignment: The model shares the units of its base, so nothing was matched." in card


def test_the_result_of_training_is_what_held_out_samples_chose() -> None:
    untrained = record(["a", "b"]) | {"merge": "learned"}

    def card(**history: Any) -> str:
        return model_card("m", untrained | {"learned_weights": {"start": "model 1", **history}})

    unchanged = "This model computes what <code>a</code> computes, because no fusion of these 2 models was better"
    assert unchanged in card(steps=0, best=0)
    assert "<code>a</code> did best on held-out samples and is the result. Nothing" in card(steps=0, best=0)
    assert "This model is <code>b</code> in the basis of the anchor, because" in card(steps=0, best=0, start="model 2")
    fitted = card(steps=0, best=0, start="fitted layers")
    assert "The fitted layers did best on held-out samples and are the result. Nothing was trained." in fitted
    assert "This model is a fusion of 2 models" in fitted
    assert "All weights were then trained" not in card(steps=0, best=0)
    assert "That gained nothing, so the result is <code>a</code>." in card(steps=25, best=0)
    assert "gained nothing" not in card(steps=25, best=25)
    steps = "All weights were then trained on the outputs of the models, for 20 steps"
    trained = f"{steps}, starting from model 1, which did best on held-out samples."
    assert f"* Merge: {trained}\n" in card(steps=25, best=20)
    assert f"* Merge: {steps}.\n" in card(steps=25, best=20, start="fitted layers")
    fit = "Each layer was then fitted by least squares to the outputs of that layer in the models. "
    untrained["least_squares"] = {}
    assert f"* Merge: {fit}{trained}\n" in card(steps=25, best=20)
    assert f"* Merge: {fit}All weights were then trained" in card(steps=25, best=0)
    assert f"* Merge: {fit}The fitted layers did best" in card(steps=0, best=0, start="fitted layers")
    untrained["growth"] = {"parameters": {"anchor": 10, "grown": 15}, "sizes": {"anchor": {}, "grown": {}}}
    assert "that were added do nothing" in card(steps=25, best=0)
    assert "that were added do nothing" not in card(steps=25, best=25)
    for start in ("fitted layers", "fitted layers (predictions only)"):
        assert "that were added do nothing" not in card(steps=0, best=0, start=start)


@pytest.mark.parametrize("change", ["depth", "maps"])
def test_a_parent_that_changed_is_not_said_to_be_the_result(change: str) -> None:
    kept = record(["a", "b"], align="flow" if change == "maps" else "exact")
    kept |= {"merge": "learned", "learned_weights": {"start": "model 2", "steps": 0, "best": 0}}
    if change == "depth":
        kept["resized"] = ["b: has 3 blocks, the anchor has 1; it gives up blocks 0, 1 (from 0)"]
    card = model_card("m", kept)
    assert "This model is what <code>b</code> became in the shape of the anchor, because no fusion" in card
    assert "What <code>b</code> became in the shape of the anchor did best on held-out samples and is the" in card
    kept["learned_weights"]["start"] = "model 1"
    assert "This model computes what <code>a</code> computes" in model_card("m", kept)


def test_the_card_names_a_command_that_can_measure_the_model() -> None:
    in_memory = record(["a", "b"], "dataset in memory")
    assert "`transfuse report --data DATA` measures the model" in model_card("m", in_memory)
    assert "`transfuse eval` measures the model" in model_card("m", in_memory | {"match_on": "both"})
    assert "`transfuse eval` measures the model" in model_card("m", record([None, "b"]))
    assert "`transfuse report` measures the model" in model_card("m", record(["a", "b"], "texts.txt"))


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
    assert words == ["transfuse", "fuse", plain, "b", "-o", plain, "--data", odd, "--align", "exact"]
    body = card.split("---\n", 2)[2]
    rows = [line for line in body.splitlines() if line.startswith("|")]
    assert len(rows) == 4, "a name broke the table"
    assert {line.count("|") for line in rows} == {4}
    (title,) = [line for line in body.splitlines() if line.startswith("# ")]
    assert len(title) > 2


@pytest.mark.parametrize(
    ("options", "due"),
    [
        ({}, EXACT),
        ({"align": "exact", "batch_size": 100}, EXACT),
        ({"align": "none"}, ["--align", "none"]),
        (
            {"align": "flow", "flow": {"plan": "soft", "regularization": 0.06}},
            ["--align", "flow", "--flow.regularization", "0.06"],
        ),
        ({"weights": (0.1, 2)}, [*EXACT, "--weights", "0.1,2.0"]),
        ({"align": "flow", "flow": {"keep": ("norms", "ffn")}}, ["--align", "flow", "--flow.keep", "norms,ffn"]),
        ({"samples": 9, "batch_size": 3, "seed": 1}, ["--batch-size", "3", "--seed", "1", *EXACT, "--samples", "9"]),
        ({"dtype": "float16", "allow_pickle": True}, ["--allow-pickle", *EXACT, "--dtype", "float16"]),
    ],
    ids=str,
)
def test_the_command_names_what_differs_from_the_defaults(options: dict[str, Any], due: list[str]) -> None:
    assert shlex.split(fuse_call("out", record(["a", "b"], **options)))[6:] == due


def test_models_of_one_base_are_aligned_again_only_if_they_were() -> None:
    """Without the flag, another run would find the base and align nothing."""
    shared = record(["a", "b"], align="none") | {"shared_base": {"correlation": 0.9}}
    assert shlex.split(fuse_call("out", shared))[6:] == []
    assert shlex.split(fuse_call("out", record(["a", "b"], align="exact", match_on="auto")))[6:] == EXACT


def test_what_was_in_memory_is_a_call_not_a_command() -> None:
    card = model_card("out", record([None, "b's"], align="flow", weights=(1, 3)))
    assert "base_model" not in front(card)
    assert "passed in memory (anchor)" in card
    assert fences(card) == ["transfuse.fuse([model_1, \"b's\"], align='flow', weights=[1.0, 3.0]).save('out')"]
    card = model_card("out", record(["a", "b"], data="dataset in memory (split train)"))
    assert fences(card) == ["transfuse.fuse(['a', 'b'], data=dataset, align='exact').save('out')"]
    card = model_card("out", record(["a", "b"], merge="ties") | {"base": {"path": None}})
    assert fences(card) == ["transfuse.fuse(['a', 'b'], base=base, align='exact', merge='ties').save('out')"]
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


def licensed(**fields: Any) -> dict[str, Any]:
    """The record of two models whose cards state these fields; the second's license is MIT."""
    found = record(["org/a", "org/b"], data="imdb")
    found["models"][0]["card"] = fields
    found["models"][1]["card"] = {"license": "mit", "datasets": ["squad", "imdb"]}
    return found


def test_the_anchors_card_says_license_language_and_task() -> None:
    fields = {"license": "other", "license_name": "llama3", "license_link": "LICENSE", "language": ["en"]}
    found = front(model_card("out", licensed(**fields, pipeline_tag="fill-mask", library_name="timm")))
    assert {name: found[name] for name in fields} == fields
    assert (found["pipeline_tag"], found["library_name"]) == ("fill-mask", "timm")
    assert found["datasets"] == ["imdb", "squad"]
    assert "license" not in front(model_card("out", record(["org/a", "org/b"])))
    adapter = front(model_card("out", licensed(library_name="peft")))
    assert adapter["library_name"] == "transformers"  # the result is a checkpoint


def test_licenses_that_differ_are_pointed_out() -> None:
    card = model_card("out", licensed(license="apache-2.0"))
    assert "**The licenses of these models differ.**" in card
    assert "| <code>org/a</code> (anchor) | 0.5 | apache-2.0 |" in card
    assert "differ" not in model_card("out", licensed(license="mit"))
    assert "differ" not in model_card("out", licensed())


def test_the_base_counts_among_the_models_that_this_one_derives_from() -> None:
    base = {"path": "org/base", "card": {"license": "other", "license_name": "llama3"}}
    card = model_card("out", licensed(license="mit") | {"base": base})
    assert front(card)["base_model"] == ["org/a", "org/b", "org/base"]
    assert "**The licenses of these models differ.**" in card
    assert "* Base: <code>org/base</code> (license: llama3). Task vectors are differences from it." in card


def test_local_names_are_not_given_to_the_hub(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "images").mkdir()
    local = record(["org/a", "b", "/models/c"], data="images") | {"directory": str(tmp_path)}
    found = front(model_card("out", local))
    assert found["base_model"] == ["org/a"]
    assert "datasets" not in found


def test_the_command_writes_where_it_was_told_to() -> None:
    found = record(["/long/way/to/a", "/long/way/to/b"]) | {"output": "/else where/out"}
    card = model_card("out", found)
    assert fences(card) == ["transfuse fuse /long/way/to/a /long/way/to/b -o '/else where/out' --align exact"]
    assert "| <code>a</code> (anchor) |" in card


MEASURED = Quality(
    {"this model": {"accuracy": 0.5, "loss": 1.25}, "anchor: a|b": {"accuracy": 0.625, "loss": 1.0}},
    [MeasuredValues("cifar10", {"accuracy": 0.5, "loss": 1.25}, "uoft/cifar10", "test", 2000)],
    "Measured on *everything*.",
    "Below the weaker parent.",
)


def test_measurements_come_later_and_the_rest_stays(tmp_path: Path) -> None:
    card = model_card("out", record(["org/a", "org/b"]))
    assert "Not measured yet" in card
    edited = card.replace("tags:\n", "thumbnail: mine.png # mine\ntags:\n").replace(
        "## Command", "My words.\n\n## Command"
    )
    measured = with_quality(edited, "out", "image-classification", MEASURED)
    assert measured is not None
    assert "Not measured yet" not in measured
    assert all(words in measured for words in ("thumbnail: mine.png # mine", "My words.", "Measured on *everything*."))
    assert "| this model | 0.5000 | 1.2500 |" in measured
    assert "Below the weaker parent." in measured
    found = front(measured)
    assert found["metrics"] == ["accuracy"]
    again = with_quality(measured, "out", "image-classification", MEASURED)
    assert again == measured
    (result,) = ModelCard(measured).data.eval_results
    assert (result.task_type, result.dataset_type, result.dataset_name) == (
        "image-classification",
        "uoft/cifar10",
        "cifar10",
    )
    assert (result.dataset_split, result.dataset_args, result.metric_value) == ("test", {"samples": 2000}, 0.5)


def test_a_card_without_the_section_is_left_alone() -> None:
    card = model_card("out", record(["org/a", "org/b"]))
    for begin, end in (("measured by transfuse: begin", "mine"), ("measured by transfuse: end", "mine")):
        assert with_quality(card.replace(begin, end), "out", None, MEASURED) is None
    assert with_quality(card + card.partition("---\n\n")[2], "out", None, MEASURED) is None


def test_without_a_task_the_hub_gets_no_index() -> None:
    measured = with_quality(model_card("out", record(["org/a", "org/b"])), "out", None, MEASURED)
    assert measured is not None
    assert "model-index" not in front(measured)


def test_a_method_of_the_users_own_is_named() -> None:
    found = record(["a", "b"]) | {"merge": "mine"}
    found["options"] = found["options"] | {"align": "{0}"}
    card = model_card("out", found)
    assert "merged by <code>mine</code>" in card
    assert "aligned by <code>{0}</code>" in card


def test_a_fine_tuned_model_keeps_license_and_base() -> None:
    tuned = {
        "finetuned": {"path": "org/a", "architecture": "BertForMaskedLM", "card": {"license": "mit"}},
        "teachers": [],
        "data": "imdb",
        "samples": 10,
        "steps": 2,
        "schedule": {"teacher_weighting": "uniform"},
    }
    found = front(finetuned_card("out", tuned))
    assert (found["license"], found["base_model"], found["base_model_relation"]) == ("mit", ["org/a"], "finetune")
    assert (found["pipeline_tag"], found["datasets"]) == ("fill-mask", ["imdb"])


def test_what_is_not_finite_is_no_result() -> None:
    broken = Quality({"this model": {"accuracy": 0.5, "perplexity": float("nan")}}, [])
    broken = replace(broken, results=[MeasuredValues("texts", broken.rows["this model"], samples=9, unit="tokens")])
    measured = with_quality(model_card("out", record(["org/a", "org/b"])), "out", "text-generation", broken)
    assert measured is not None
    assert "| this model | 0.5000 | nan |" in measured
    (result,) = ModelCard(measured).data.eval_results
    assert (result.metric_type, result.dataset_args) == ("accuracy", {"tokens": 9})


@pytest.mark.parametrize(("loss", "cell"), [(3e-7, "0.0000"), (3e-5, "3e-05"), (0.25, "0.2500")])
def test_a_loss_that_rounding_explains_is_zero_as_in_tables(loss: float, cell: str) -> None:
    row = Row("f", "fusion", Metrics(0.5, loss, 100), Intervals((0, 1), (0, 1)), 0.0)
    measured = Measurement([row], {}, {}, ("accuracy", "loss"), source="data")
    card = quality_section(report_quality(measured, "", record(["org/a", "org/b"]) | {"directory": "."}))
    assert f"| this model | 0.5000 | {cell} |" in card
