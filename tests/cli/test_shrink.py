"""`transfuse shrink` as a user runs it: an ordinary checkpoint of the sizes that were asked for, or one line."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from cli_inputs import Run, World, one_line
from languages import TEXTS, gpt2, llama, qwen3_moe, saved
from transformers import AutoConfig, PreTrainedModel, Qwen3MoeForCausalLM, ViTForImageClassification

from transfuse.cli.shrink_request import shrink_request
from transfuse.shrinking import streamed

QUICK = ("--effort", "quick", "--device", "cpu", "--batch-size", "4")


def test_a_checkpoint_of_the_sizes_that_were_asked_for(world: World, run: Run) -> None:
    sizes = ("--hidden-size", 8, "--layers", 1, "--intermediate-size", 20)
    ran = run("shrink", world.a, "--data", world.images, "-o", world.here / "out", *sizes, *QUICK, "--json")
    assert ran.status == 0, ran
    document = json.loads(ran.out)
    config = AutoConfig.from_pretrained(world.here / "out")
    assert (config.hidden_size, config.num_hidden_layers, config.intermediate_size) == (8, 1, 20)
    assert config.num_attention_heads == 1
    model, report = ViTForImageClassification.from_pretrained(world.here / "out", output_loading_info=True)
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert document["parameters"]["small"] == model.num_parameters() < document["parameters"]["large"]
    assert document["shrunk"]["path"] == str(world.a)
    assert len(document["blocks"]) == 1
    assert len(document["quality"]["models"]) == 2
    assert [path.name for path in world.here.iterdir()] == ["out"]
    card = (world.here / "out" / "README.md").read_text()
    assert "made smaller with transfuse" in card
    assert "<code>hidden_size</code> | 16 | 8" in card
    assert run("eval", world.here / "out", world.a, "--data", world.images).status == 0
    one_line(run("report", world.here / "out"), ["made smaller", "transfuse eval", "shrink --report"])


def test_an_output_in_the_home_folder(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(world.here))
    flags = {"output": "~/out", "layers": 1, "overwrite": False, "report": False}
    assert shrink_request(str(world.a), flags, str(world.images), plans=False).output == world.here / "out"


def test_it_trains_and_says_what_it_did(world: World, run: Run) -> None:
    ran = run(
        "shrink", world.a, "--data", world.images, "-o", world.here / "out", "--layers", 1, "--steps", 3,
        "--device", "cpu",
    )  # fmt: skip
    assert ran.status == 0, ran
    assert "layers 2 to 1" in ran.out
    assert "The small model reaches" in ran.out
    record = json.loads((world.here / "out" / "transfuse.json").read_text())
    assert record["learned_weights"]["steps"] == 3
    again = ("shrink", world.a, "--data", world.images, "-o", world.here / "out", "--layers", 1, *QUICK)
    one_line(run(*again), ["out", "--overwrite"])
    assert run(*again, "--overwrite", "-q").out == ""


def test_a_model_as_a_pattern_and_a_share(world: World, run: Run) -> None:
    plan = json.loads(run("shrink", world.wide, "--like", world.a, "--dry-run", "--json").out)["possible"][0]
    assert (plan["sizes"]["large"]["head_size"], plan["sizes"]["small"]["head_size"]) == (12, 8)
    one_line(
        run("shrink", world.a, "--like", world.wide, "--dry-run"),
        [f"--like: the sizes of {world.wide} do not fit; hidden_size: 24 is more than the 16"],
    )
    plan = json.loads(run("shrink", world.deep, "--like", world.a, "--dry-run", "--json").out)["possible"][0]
    assert (plan["sizes"]["large"]["layers"], plan["sizes"]["small"]["layers"]) == (3, 2)
    little = run("shrink", world.a, "--ratio", 0.5, "--dry-run", "--max-memory", "1MB")
    least = r"--max-memory: shrinking takes about ([0-9.]+) ([MG]B); allow at least that much"
    ((amount, unit),) = re.findall(least, little.err)
    assert unit == "GB" or float(amount) > 50  # what the program itself takes counts
    enough = run("shrink", world.a, "--ratio", 0.5, "--dry-run", "--max-memory", "64GB")
    assert re.search(r"Shrinking takes about [0-9.]+ [MG]B, besides the samples. It fits in 64.0 GB.\n$", enough.out)
    assert "fits" not in run("shrink", world.a, "--ratio", 0.5, "--dry-run").out
    for plan in json.loads(run("shrink", world.a, "--ratio", 0.5, "--dry-run", "--json").out)["possible"]:
        assert 0.3 < plan["parameters"]["small"] / plan["parameters"]["large"] <= 0.5
    assert world.listing() == {}


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ([], ["no size given"]),
        (["--ratio", "1.5"], ["--ratio", "less than 1"]),
        (["--ratio", "0.5", "--layers", "1"], ["--ratio", "--layers"]),
        (["--layers", "7"], ["layers", "7 is more than the 2"]),
        (["--hidden-size", "12"], ["--hidden-size: 12", "multiple of 8"]),
        (["--heads", "1"], ["heads", "hidden_size of 8"]),
        (["--kv-heads", "1"], ["--kv-heads", "no such size"]),
        (["--ratio", "0.01"], ["--ratio: no sizes keep 0.01", "give at least 0."]),
        (["--like", "nowhere/at/all"], ["nowhere/at/all"]),
        (["--layers", "1", "--data", "generated"], ["cannot generate texts"]),
        (["--layers", "1", "--steps", "1", "--minutes", "1"], ["--minutes", "--steps"]),
    ],
    ids=str,
)
def test_what_is_impossible_takes_one_line(world: World, run: Run, flags: list[str], words: list[str]) -> None:
    data = [] if "--data" in flags else ["--data", world.images]
    one_line(run("shrink", world.a, *data, "-o", world.here / "out", *flags), words)
    assert world.listing() == {}


def test_samples_and_an_output_are_needed(world: World, run: Run) -> None:
    one_line(run("shrink", world.a, "-o", world.here / "out", "--layers", 1), ["--data", "needs samples"])
    one_line(run("shrink", world.a, "--data", world.images, "--layers", 1), ["no output", "-o"])
    one_line(run("shrink", world.foreign, "--data", world.images, "-o", world.here / "o", "--layers", 1), ["foreign"])


@pytest.mark.parametrize(
    ("build", "sizes"),
    [
        (gpt2, {"hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1}),
        (llama, {"hidden_size": 16, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 20}),
    ],
)
def test_a_language_model_writes_its_own_samples(
    build: Callable[[int], PreTrainedModel], sizes: dict[str, int], tmp_path: Path, run: Run
) -> None:
    names = {"num_attention_heads": "heads", "num_key_value_heads": "kv-heads", "num_hidden_layers": "layers"}
    flags = [
        text for name, size in sizes.items() for text in (f"--{names.get(name, name).replace('_', '-')}", str(size))
    ]
    model = saved(tmp_path / "large", build, 1)
    ran = run("shrink", model, "--data", "generated", "--samples", 20, "-o", tmp_path / "small", *flags, *QUICK)
    assert ran.status == 0, ran
    assert "of generated texts, the texts that it was fitted to" in ran.out
    config = AutoConfig.from_pretrained(tmp_path / "small")
    assert {name: getattr(config, name) for name in sizes} == sizes
    (tmp_path / "texts.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in TEXTS))
    assert run("eval", tmp_path / "small", "--data", tmp_path / "texts.jsonl").status == 0
    assert (tmp_path / "small" / "tokenizer.json").is_file()
    card = (tmp_path / "small" / "README.md").read_text()
    assert "texts that the model generated itself" in card


def test_experts_beyond_memory(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    large, small = saved(tmp_path / "large", qwen3_moe, 1), tmp_path / "small"
    (tmp_path / "texts.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in TEXTS))
    given = ("shrink", large, "--data", tmp_path / "texts.jsonl", "-o", small, "--experts", 1, "--lines")
    monkeypatch.setattr(streamed, "FREE_PART", 10**12)  # as if next to no memory were free
    ran = run(*given, "--effort", "quick", "--device", "cpu")
    assert ran.status == 0, ran
    assert "Not measured: the models do not fit into memory together. Measure it with: transfuse eval" in ran.out
    assert ran.out.rstrip().endswith("--lines")
    record = json.loads((small / "transfuse.json").read_text())
    assert record["streamed"] is True
    assert len(Qwen3MoeForCausalLM.from_pretrained(small).model.layers[0].mlp.experts.down_proj) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["large", "small", "texts.jsonl"]


def test_fewer_experts(tmp_path: Path, run: Run) -> None:
    large, small = saved(tmp_path / "large", qwen3_moe, 1), tmp_path / "small"
    (tmp_path / "texts.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in TEXTS))
    plan = run("shrink", large, "--experts", 0.4, "--dry-run")
    assert "experts 3 to 1" in plan.out
    ran = run(
        "shrink", large, "--data", tmp_path / "texts.jsonl", "-o", small, "--experts", 1, *QUICK, "--lines", "--report"
    )
    assert ran.status == 0, ran
    assert "experts 3 to 1" in ran.out
    config = json.loads((small / "config.json").read_text())
    stored = config.get("num_experts", config.get("num_local_experts"))
    assert (stored, config["num_experts_per_tok"]) == (1, 1)
    model, report = Qwen3MoeForCausalLM.from_pretrained(small, output_loading_info=True)
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert len(model.model.layers[0].mlp.experts.down_proj) == 1
    record = json.loads((small / "transfuse.json").read_text())
    assert [len(layer["kept"]) for layer in record["experts"].values()] == [1, 1]
    page = (small / "report.html").read_text()
    assert "--experts 1" in page
    kept = record["experts"]["model.layers.1.mlp.experts"]["kept"][0]
    assert f'<th scope="row">1</th><td class="list">{kept}</td>' in page
    for experts, words in {
        "4": ["experts", "4 is more than the 3"],
        "1.5": ["--experts", "whole number"],
        "0": ["--experts", "greater than 0"],
        "3": ["has these sizes already"],
    }.items():
        flags = ("--data", tmp_path / "texts.jsonl", "-o", tmp_path / "none", "--experts", experts)
        one_line(run("shrink", large, *flags), words)
    assert not (tmp_path / "none").exists()


def test_a_model_without_experts(world: World, run: Run) -> None:
    flags = ("--data", world.images, "-o", world.here / "out", "--experts", 0.5)
    one_line(run("shrink", world.a, *flags), ["experts", "no such size"])
