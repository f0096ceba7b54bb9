"""What may be replaced: files that the tool or save_pretrained wrote. All else is the user's, and is named."""

import json
from pathlib import Path
from typing import Any

import pytest

from transfuse.checkpoint.writing.owned import (
    GENERATOR_TAG,
    first_foreign_entry,
    is_own_file,
    is_run_folder,
    missing_model_part,
)

RECORD = {
    "models": [],
    "versions": {},
    "copied": ["LICENSE", "qwen.tiktoken", "vocab.txt"],
    "sentence_transformers": ["1_Pooling/config.json", "2_Normalize/", "modules.json", "notes.txt"],
}
INDEX = {"weight_map": {"x": "model-00001-of-00002.safetensors"}}
CARD = "---\nlibrary_name: transformers\ntags:\n- transfuse\n- merge\n---\n\n# out\n"
REPORT = {"title": "", "verdict": "", "command": "", "record": {}, "matched": [], "measured": None}
WRITTEN = (
    "config.json", "generation_config.json", "model.safetensors", "model-00001-of-00002.safetensors",
    "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model-00001-of-00002.bin",
    "pytorch_model.bin.index.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt", "merges.txt",
    "preprocessor_config.json", "chat_template.jinja", "additional_chat_templates/tools.jinja",
)  # fmt: skip


def write(folder: Path, name: str, content: Any = "text") -> Path:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text(content if isinstance(content, str) else json.dumps(content))
    return folder / name


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """All that an output may hold."""
    for name in WRITTEN:
        write(tmp_path, name)
    write(tmp_path, "model.safetensors.index.json", INDEX)
    write(tmp_path, "pytorch_model.bin.index.json", {"weight_map": {"x": "pytorch_model-00001-of-00002.bin"}})
    write(tmp_path, "transfuse.json", RECORD)
    write(tmp_path, "qwen.tiktoken")
    write(tmp_path, "LICENSE")
    write(tmp_path, "README.md", CARD)
    write(tmp_path, "report.html", f"<!doctype html>\n<head>\n{GENERATOR_TAG}\n")
    write(tmp_path, "report.json", REPORT)
    write(tmp_path, "modules.json", [])
    write(tmp_path, "1_Pooling/config.json", {})
    (tmp_path / "2_Normalize").mkdir()
    return tmp_path


def test_an_output_is_all_ours(output: Path) -> None:
    assert first_foreign_entry(output) is None


def test_what_a_killed_run_left_unfinished_is_ours(output: Path) -> None:
    (output / ".README.partial-e1961985.md").write_text("# o")
    assert first_foreign_entry(output) is None
    (output / ".notes.partial-e1961985.md").write_text("# mine")
    assert first_foreign_entry(output) == ".notes.partial-e1961985.md"


def test_what_save_pretrained_writes_alone(tmp_path: Path) -> None:
    for name in WRITTEN:
        if "-00001-" not in name:
            write(tmp_path, name)
    assert first_foreign_entry(tmp_path) is None


@pytest.mark.parametrize(
    "name",
    [
        *("notes.txt", "training_args.bin", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json"),
        *("modeling_mine.py", ".gitattributes", ".env", "model.gguf", "model-backup.safetensors", "model-old.bin"),
        *("model.bin", "model-00009-of-00009.safetensors", "mine.tiktoken", "LICENSE.txt", "NOTICE"),
        *("adapter_model.safetensors", "config.json.bak", "model_index.json", "train.log", "sentence_bert_config.json"),
    ],
)
def test_a_file_of_the_user(output: Path, name: str) -> None:
    write(output, name)
    assert first_foreign_entry(output) == name


@pytest.mark.parametrize("name", ["checkpoint-100", "runs", ".git", "onnx", "3_Dense", "tokenizer.json.d"])
def test_a_folder_of_the_user(output: Path, name: str) -> None:
    (output / name).mkdir()
    assert first_foreign_entry(output) == f"{name}/"
    write(output, f"{name}/config.json")
    assert first_foreign_entry(output) == f"{name}/"


@pytest.mark.parametrize(
    "name", ["1_Pooling/notes.txt", "1_Pooling/deep/config.json", "additional_chat_templates/a.py"]
)
def test_a_file_in_a_folder_that_was_copied(output: Path, name: str) -> None:
    (output / name).parent.mkdir(exist_ok=True)
    write(output, name)
    assert first_foreign_entry(output) == ("1_Pooling/deep" if "deep" in name else name)


def test_the_record_cannot_make_any_file_ours(output: Path) -> None:
    write(
        output, "transfuse.json", RECORD | {"sentence_transformers": ["notes.txt", "runs/", "runs/events", 5, "../x"]}
    )
    for name in ("modules.json", "1_Pooling/config.json"):
        (output / name).unlink()
    (output / "1_Pooling").rmdir()
    (output / "2_Normalize").rmdir()
    write(output, "notes.txt")
    assert first_foreign_entry(output) == "notes.txt"
    (output / "notes.txt").unlink()
    write(output, "runs/events")
    assert first_foreign_entry(output) == "runs/"


@pytest.mark.parametrize("name", ["modules.json", "1_Pooling/"])
def test_settings_of_sentence_transformers_are_ours_only_if_they_were_copied(output: Path, name: str) -> None:
    left = [each for each in RECORD["sentence_transformers"] if not each.startswith(name)]
    write(output, "transfuse.json", RECORD | {"sentence_transformers": left})
    assert first_foreign_entry(output) == name


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("README.md", "# My model\n"),
        ("README.md", "---\ntags: [mine]\n---\n"),
        ("README.md", "---\n: [\n---\n"),
        ("README.md", "about transfuse"),
        ("transfuse.json", {"align": "exact"}),
        ("transfuse.json", "{"),
        ("transfuse.json", []),
        ("report.html", "<html>my report</html>"),
        ("report.json", {"title": "mine"}),
    ],
)
def test_a_file_of_the_same_name(output: Path, name: str, content: Any) -> None:
    write(output, name, content)
    assert not is_own_file(output / name)
    if name == "transfuse.json":  # then neither the card nor what was copied can be known
        for each in ("README.md", "modules.json", "1_Pooling/config.json", "LICENSE", "qwen.tiktoken"):
            (output / each).unlink()
        (output / "1_Pooling").rmdir()
        (output / "2_Normalize").rmdir()
    assert first_foreign_entry(output) == name


def test_a_card_without_our_record_is_not_ours(output: Path) -> None:
    (output / "transfuse.json").unlink()
    assert not is_own_file(output / "README.md")


def test_shards_by_other_names_are_known_by_their_index(output: Path) -> None:
    write(output, "part-1.safetensors")
    assert first_foreign_entry(output) == "part-1.safetensors"
    (output / "model-00001-of-00002.safetensors").unlink()
    write(output, "model.safetensors.index.json", {"weight_map": {"x": "part-1.safetensors", "y": "notes.txt"}})
    assert first_foreign_entry(output) is None
    write(output, "notes.txt")
    assert first_foreign_entry(output) == "notes.txt"


def test_links(output: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (output / "config.json").unlink()
    (output / "config.json").symlink_to(write(elsewhere, "config.json"))  # as in the hub's cache
    assert first_foreign_entry(output) is None
    (output / "tokenizer.model").symlink_to(elsewhere)
    assert first_foreign_entry(output) == "tokenizer.model/"
    (output / "tokenizer.model").unlink()
    (output / "tokenizer.model").symlink_to(elsewhere / "absent")
    assert first_foreign_entry(output) == "tokenizer.model"


@pytest.mark.parametrize(
    ("config", "weights", "missing"),
    [
        ({"model_type": "vit"}, "model.safetensors", None),
        ({"architectures": ["ViTModel"]}, "pytorch_model.bin", None),
        ({"model_type": "vit"}, "model.bin", "has no weights"),
        ({"model_type": "vit"}, "vocab.txt", "has no weights"),
        ({"database": "postgres://"}, "model.safetensors", "its config.json names no model_type and no architectures"),
        ([], "model.safetensors", "its config.json names no model_type and no architectures"),
        (None, "model.safetensors", "has no config.json"),
    ],
)
def test_what_holds_a_model(tmp_path: Path, config: Any, weights: str, missing: str | None) -> None:
    if config is not None:
        write(tmp_path, "config.json", config)
    write(tmp_path, weights)
    assert missing_model_part(tmp_path) == missing


def test_an_index_names_weights_that_are_there(tmp_path: Path) -> None:
    write(tmp_path, "config.json", {"model_type": "vit"})
    write(tmp_path, "model-00001-of-00002.safetensors")
    assert missing_model_part(tmp_path) == "has no weights"
    write(tmp_path, "model.safetensors.index.json", INDEX)
    assert missing_model_part(tmp_path) is None


@pytest.mark.parametrize(
    ("names", "due"),
    [
        ([], True),
        ([".transfuse", "notes.txt"], True),
        (["0123456789abcdef0123/map.safetensors"], True),
        (["0123456789abcdef0123/map.safetensors", "notes.txt"], False),
        (["run.json", "checkpoint-5/model.safetensors"], True),
        (["checkpoint-5/model.safetensors"], False),
        (["events"], False),
    ],
)
def test_folders_of_runs(tmp_path: Path, names: list[str], due: bool) -> None:
    for name in names:
        write(tmp_path, name)
    assert is_run_folder(tmp_path) is due
    write(tmp_path, "transfuse.json", RECORD)
    assert is_run_folder(tmp_path)
