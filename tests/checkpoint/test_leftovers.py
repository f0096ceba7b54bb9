"""What does not go with a model is listed; names of code that is not there are taken out, and nothing else changes."""

import json
from pathlib import Path

from transfuse.checkpoint.record.copied_files import model_files
from transfuse.checkpoint.record.leftovers import drop_code_references, file_record
from transfuse.checkpoint.writing.save import save_checkpoint

NOTHING = {
    "copied": [], "sentence_transformers": [], "left_out": [], "left_out_count": 0, "auto_map_dropped": [],
    "custom_pipelines_dropped": [],
}  # fmt: skip
COPIED = [
    "LICENSE", "LICENSE.txt", "NOTICE.md", "sentencepiece.model", "source.spm", "target.spm", "spm.model",
    "tekken.json", "tokenizer.model.v3", "vocab.bpe", "qwen.tiktoken",
]  # fmt: skip
PIPES = {"custom_pipelines": {"mine": {"impl": "mine.Pipe"}}}
MAP = {"AutoConfig": "configuration_mine.MyConfig", "AutoModel": "modeling_mine.MyModel"}


def fill(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("{}")


def test_files_that_are_not_copied(tmp_path: Path) -> None:
    assert file_record(model_files(None)) == NOTHING
    fill(tmp_path, "config.json", "README.md", "transfuse.json", "model.safetensors", "pytorch_model.bin", "vocab.txt")
    fill(tmp_path, ".gitattributes", ".git/HEAD", "generation_config.json", "additional_chat_templates/a.jinja")
    fill(tmp_path, *COPIED)
    copied = sorted([*COPIED, "additional_chat_templates/a.jinja", "generation_config.json", "vocab.txt"])
    nothing = NOTHING | {"copied": copied}
    assert file_record(model_files(tmp_path)) == nothing
    fill(tmp_path, "out.work/.transfuse", "cache/0123456789abcdef0123/a.safetensors", "o.checkpoints/run.json")
    (tmp_path / "empty").mkdir()
    (tmp_path / "fused").mkdir()
    (tmp_path / "fused" / "transfuse.json").write_text('{"versions": {}, "models": []}')
    assert file_record(model_files(tmp_path)) == nothing
    fill(tmp_path, "training_args.bin", "modeling_mine.py", "runs/events", "tf_model.h5", "additional_chat_templates/b")
    fill(tmp_path, "LICENSE.py")
    due = ["LICENSE.py", "additional_chat_templates/b", "modeling_mine.py", "runs/", "tf_model.h5", "training_args.bin"]
    assert file_record(model_files(tmp_path)) == nothing | {"left_out": due, "left_out_count": 6}


def test_no_more_than_two_hundred_names(tmp_path: Path) -> None:
    fill(tmp_path, "config.json", *(f"{number:03}.txt" for number in range(205)))
    found = file_record(model_files(tmp_path))
    assert found["left_out"] == [f"{number:03}.txt" for number in range(200)]
    assert found["left_out_count"] == 205


def test_names_of_code_are_dropped(tmp_path: Path) -> None:
    texts = {
        "config.json": {"model_type": "é", "auto_map": MAP, **PIPES, "text_config": {"auto_map": MAP, "size": 3}},
        "tokenizer_config.json": {"auto_map": {"AutoTokenizer": ["mine.Tokenizer", None]}, "model_max_length": 5},
        "processor_config.json": {"image_processor": {"auto_map": {"AutoImageProcessor": "me/repo--mine.P"}}},
        "preprocessor_config.json": {"do_resize": True},
    }
    for name, found in texts.items():
        (tmp_path / name).write_text(json.dumps(found))
    untouched = (tmp_path / "preprocessor_config.json").stat()
    found = file_record(model_files(tmp_path))
    assert found["auto_map_dropped"] == ["config.json", "processor_config.json", "tokenizer_config.json"]
    assert found["custom_pipelines_dropped"] == ["config.json"]
    drop_code_references(tmp_path)
    assert {name: json.loads((tmp_path / name).read_text()) for name in texts} == {
        "config.json": {"model_type": "é", "text_config": {"size": 3}},
        "tokenizer_config.json": {"model_max_length": 5},
        "processor_config.json": {"image_processor": {}},
        "preprocessor_config.json": {"do_resize": True},
    }
    assert (tmp_path / "preprocessor_config.json").stat().st_mtime_ns == untouched.st_mtime_ns
    copied = ["preprocessor_config.json", "processor_config.json", "tokenizer_config.json"]
    assert file_record(model_files(tmp_path)) == NOTHING | {"copied": copied}


def test_names_of_code_that_is_there_stay(tmp_path: Path) -> None:
    """As save_pretrained leaves a model of a class of one's own that was passed in memory."""
    (tmp_path / "config.json").write_text(json.dumps({"auto_map": MAP}))
    fill(tmp_path, "configuration_mine.py", "modeling_mine.py")
    drop_code_references(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text()) == {"auto_map": MAP}
    (tmp_path / "modeling_mine.py").unlink()
    drop_code_references(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text()) == {}


def test_licenses_are_copied_beside_a_processor_that_is_saved(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    fill(tmp_path / "model", "config.json", "LICENSE", "NOTICE.md", "tokenizer.json", "vocab.txt")

    class Processor:
        def save_pretrained(self, folder: Path) -> None:
            (folder / "tokenizer.json").write_text("[]")

    files = model_files(tmp_path / "model")
    saved = save_checkpoint(tmp_path / "out", "refuse", lambda _: None, [None], Processor(), {}, {}, files=files)
    assert sorted(path.name for path in saved.iterdir()) == ["LICENSE", "NOTICE.md", "tokenizer.json", "transfuse.json"]
    assert (saved / "tokenizer.json").read_text() == "[]"
