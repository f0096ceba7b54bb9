"""What lies beside the weights: what belongs to a model comes along, loaded or streamed; the rest is named."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from cases import GPT2
from cli_inputs import Run, World, one_line
from transformers import AutoModelForCausalLM, BertConfig, BertModel, GenerationConfig, GPT2Config, GPT2LMHeadModel

import transfuse
from transfuse.errors import CheckpointError

Fuse = Callable[[list[Path], Path], object]
WAYS: dict[str, Fuse] = {
    "loaded": lambda models, out: transfuse.fuse(models, align="none").save(out),
    "streamed": lambda models, out: transfuse.fuse(models, stream=True, align="none").save(out),
}
BERT = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32, "vocab_size": 30}
LISTED = [("Transformer", ""), ("Pooling", "1_Pooling"), ("Normalize", "2_Normalize")]
MAP = {"AutoConfig": "configuration_mine.MyConfig", "AutoModelForCausalLM": "modeling_mine.MyModel"}


def edit(file: Path, **changes: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


@pytest.fixture
def speakers(tmp_path: Path) -> list[Path]:
    """Two models that generate."""
    for seed, name in enumerate("ab"):
        torch.manual_seed(seed)
        GPT2LMHeadModel(GPT2Config(**GPT2)).save_pretrained(tmp_path / name)
    return [tmp_path / "a", tmp_path / "b"]


@pytest.fixture
def sentences(tmp_path: Path) -> list[Path]:
    """Two models of sentence-transformers."""
    for seed, name in enumerate("ab"):
        torch.manual_seed(seed)
        BertModel(BertConfig(**BERT)).save_pretrained(tmp_path / name)
        modules = [
            {"idx": n, "path": path, "type": f"sentence_transformers.models.{k}"} for n, (k, path) in enumerate(LISTED)
        ]
        (tmp_path / name / "modules.json").write_text(json.dumps(modules))
        (tmp_path / name / "1_Pooling").mkdir()
        (tmp_path / name / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_cls_token": True}))
        (tmp_path / name / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 32 + seed}))
    return [tmp_path / "a", tmp_path / "b"]


# Generation settings


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize(
    "given",
    [
        {"temperature": 0.7, "max_length": 40, "no_repeat_ngram_size": 3, "do_sample": True},
        {"temperature": 0.7, "do_sample": False, "early_stopping": True, "length_penalty": 2.0},  # at odds
        {"temperature": -1.0, "do_sample": True},  # out of range
    ],
)
def test_generation_settings_in_the_configuration(speakers: list[Path], tmp_path: Path, how: str, given: Any) -> None:
    (speakers[0] / "generation_config.json").unlink()
    edit(speakers[0] / "config.json", **given)
    WAYS[how](speakers, tmp_path / "out")
    found = AutoModelForCausalLM.from_pretrained(tmp_path / "out").generation_config
    assert {name: getattr(found, name) for name in given} == given


@pytest.mark.parametrize("how", WAYS)
def test_generation_settings_in_their_own_file_win(speakers: list[Path], tmp_path: Path, how: str) -> None:
    text = json.dumps({"temperature": 0.9, "do_sample": False, "max_new_tokens": 7})  # transformers would not save it
    (speakers[0] / "generation_config.json").write_text(text)
    edit(speakers[0] / "config.json", temperature=0.5)
    WAYS[how](speakers, tmp_path / "out")
    assert (tmp_path / "out" / "generation_config.json").read_text() == text


def test_loaded_models_with_settings_that_transformers_does_not_save(speakers: list[Path], tmp_path: Path) -> None:
    models = [AutoModelForCausalLM.from_pretrained(each) for each in speakers]
    models[0].generation_config = GenerationConfig(max_new_tokens=7)
    models[0].generation_config.temperature = 0.5  # without do_sample
    with pytest.raises(ValueError, match="temperature"):
        models[0].generation_config.save_pretrained(tmp_path)
    fusion = transfuse.fuse(models, align="none")
    fusion.save(tmp_path / "out")
    found = json.loads((tmp_path / "out" / "generation_config.json").read_text())
    assert (found["temperature"], found["max_new_tokens"]) == (0.5, 7)
    assert fusion.model.generation_config.temperature == 0.5


# Sentence-transformers


@pytest.mark.parametrize("how", WAYS)
def test_how_sentences_are_pooled(sentences: list[Path], tmp_path: Path, how: str) -> None:
    WAYS[how](sentences, tmp_path / "out")
    for name in ("modules.json", "1_Pooling/config.json", "sentence_bert_config.json"):
        assert (tmp_path / "out" / name).read_bytes() == (sentences[0] / name).read_bytes()
    record = json.loads((tmp_path / "out" / "transfuse.json").read_text())
    assert record["sentence_transformers"] == ["1_Pooling/config.json", "modules.json", "sentence_bert_config.json"]
    assert record["left_out"] == []


def test_such_an_output_can_be_replaced(sentences: list[Path], tmp_path: Path, run: Run) -> None:
    given = ["fuse", *sentences, "-o", tmp_path / "out", "--align", "none", "--overwrite"]
    for _ in range(2):
        ran = run(*given)
        assert ran.status == 0, ran
        assert "Not copied" not in ran.out
    (tmp_path / "out" / "1_Pooling" / "notes.txt").write_text("mine")
    one_line(run(*given), ["holds 1_Pooling/notes.txt"])


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("which", [0, 1])
def test_modules_with_weights_are_refused(sentences: list[Path], tmp_path: Path, how: str, which: int) -> None:
    file = sentences[which] / "modules.json"
    dense = {"idx": 3, "name": "3", "path": "3_Dense", "type": "sentence_transformers.models.Dense"}
    file.write_text(json.dumps([*json.loads(file.read_text()), dense]))
    with pytest.raises(CheckpointError, match=rf"{'ab'[which]}: its module 3_Dense .* weights of its own"):
        WAYS[how](sentences, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_tuning_refuses_modules_with_weights_before_it_trains(world: World, run: Run) -> None:
    model = shutil.copytree(world.a, world.here / "model")
    dense = {"idx": 0, "path": "2_Dense", "type": "sentence_transformers.models.Dense"}
    (model / "modules.json").write_text(json.dumps([dense]))
    one_line(run("finetune", model, "--data", world.images, "-o", world.here / "out"), ["model", "2_Dense", "weights"])
    assert run("eval", model, "--data", world.images).status == 0
    assert {path.name for path in world.here.iterdir()} == {"model"}


@pytest.mark.parametrize("command", ["fuse", "plan"])
def test_refusals_are_one_line(sentences: list[Path], tmp_path: Path, run: Run, command: str) -> None:
    output = ["-o", tmp_path / "out"] if command == "fuse" else []
    (sentences[1] / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode": "mean"}))
    one_line(run(command, *sentences, *output), ["b: ", "by mean", "by cls", "remove its modules.json"])
    shutil.rmtree(sentences[1] / "1_Pooling")
    (sentences[1] / "1_Pooling").symlink_to(sentences[0] / "1_Pooling")
    one_line(run(command, *sentences, *output), ["b/1_Pooling", "link"])
    assert {path.name for path in tmp_path.iterdir()} == {"a", "b"}


# Code, and all else


@pytest.mark.parametrize("how", WAYS)
def test_names_of_code_are_dropped(speakers: list[Path], tmp_path: Path, how: str) -> None:
    edit(speakers[0] / "config.json", auto_map=MAP)
    (speakers[0] / "tokenizer_config.json").write_text(
        json.dumps({"auto_map": {"AutoTokenizer": ["mine.T", None]}, "x": 1})
    )
    for name in ("modeling_mine", "configuration_mine"):
        (speakers[0] / f"{name}.py").write_text("raise SystemExit('ran')\n")
    out = tmp_path / "out"
    WAYS[how](speakers, out)
    assert "auto_map" not in json.loads((out / "config.json").read_text())
    assert json.loads((out / "tokenizer_config.json").read_text()) == {"x": 1}
    assert not list(out.glob("*.py"))
    assert type(AutoModelForCausalLM.from_pretrained(out, trust_remote_code=True)) is GPT2LMHeadModel
    record = json.loads((out / "transfuse.json").read_text())
    assert record["left_out"] == ["configuration_mine.py", "modeling_mine.py"]
    assert record["left_out_count"] == 2
    assert record["auto_map_dropped"] == ["config.json", "tokenizer_config.json"]


def test_what_was_left_out_is_said_once(world: World, run: Run) -> None:
    anchor = shutil.copytree(world.a, world.here / "anchor")
    edit(anchor / "config.json", auto_map=MAP)
    for number in range(9):
        (anchor / f"notes-{number}.txt").write_text("mine")
    (anchor / "runs").mkdir()
    (anchor / "runs" / "events").write_text("mine")
    given = ["fuse", anchor, world.b, "-o", world.here / "out", "--align", "none", "--overwrite"]
    said = run(*given)
    assert said.status == 0, said
    assert said.out.splitlines()[1:-1] == [
        f"Not copied from {anchor}: {', '.join(f'notes-{number}.txt' for number in range(8))} and 2 more."
        " Dropped auto_map from config.json: the code it names is not copied."
    ]
    assert said.err == ""
    assert run(*given, "-q").out == ""
    found = json.loads(run(*given, "--json").out)
    assert found["left_out"] == [*(f"notes-{number}.txt" for number in range(9)), "runs/"]
    assert found == json.loads((world.here / "out" / "transfuse.json").read_text()) | {"quality": found["quality"]}


def test_pipelines_that_are_dropped_are_named(world: World, run: Run) -> None:
    anchor = shutil.copytree(world.a, world.here / "anchor")
    given = ["fuse", anchor, world.b, "-o", world.here / "out", "--align", "none", "--overwrite"]
    edit(anchor / "config.json", custom_pipelines={"mine": {"impl": "mine.Pipe"}})
    assert run(*given).out.splitlines()[1:-1] == [
        "Dropped custom_pipelines from config.json: the code it names is not copied."
    ]
    edit(anchor / "config.json", auto_map=MAP)
    assert run(*given).out.splitlines()[1:-1] == [
        "Dropped auto_map from config.json and custom_pipelines from config.json: the code they name is not copied."
    ]
    record = json.loads((world.here / "out" / "transfuse.json").read_text())
    assert record["custom_pipelines_dropped"] == record["auto_map_dropped"] == ["config.json"]
    found = json.loads((world.here / "out" / "config.json").read_text())
    assert not {"custom_pipelines", "auto_map"} & found.keys()


@pytest.mark.parametrize("where", ["fused", "cache"])
def test_folders_of_the_run_itself_are_not_named(where: str, world: World, run: Run) -> None:
    anchor = shutil.copytree(world.a, world.here / "anchor")
    given = ["-o", anchor / "fused"] if where == "fused" else ["-o", world.here / "out", "--cache", anchor / "cache"]
    for _ in range(2):
        ran = run("fuse", anchor, world.b, *given, "--overwrite", "--json")
        assert ran.status == 0, ran
        assert json.loads(ran.out)["left_out"] == []


def test_fine_tuning_says_it_too(world: World, run: Run) -> None:
    model = shutil.copytree(world.a, world.here / "model")
    (model / "optimizer.pt").write_text("state")
    given = ["--data", world.images, "-o", world.here / "out", "--epochs", 1, "--device", "cpu"]
    said = run("finetune", model, *given)
    assert said.status == 0, said
    assert said.out.splitlines()[1] == f"Not copied from {model}: optimizer.pt."
    assert json.loads((world.here / "out" / "transfuse.json").read_text())["left_out"] == ["optimizer.pt"]
