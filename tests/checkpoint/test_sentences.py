"""What sentence-transformers keeps beside a model is copied, or refused before any work is done."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from transfuse.checkpoint.reading.files import copy_files
from transfuse.checkpoint.reading.sentences import check_sentence_modules, pooling_modes, read_modules, sentence_files
from transfuse.errors import CheckpointError

OLD = {"word_embedding_dimension": 24, "pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
LIST = [("Transformer", ""), ("Pooling", "1_Pooling"), ("Normalize", "2_Normalize")]
PREFIX = "sentence_transformers.models."


def listed(*pairs: tuple[str, Any], prefix: str = PREFIX) -> str:
    return json.dumps(
        [
            {"idx": index, "name": str(index), "path": path, "type": prefix + kind}
            for index, (kind, path) in enumerate(pairs)
        ]
    )


def write(folder: Path, name: str, content: Any) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(content if isinstance(content, str) else json.dumps(content))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """As sentence-transformers saves a model, without the model."""
    folder = tmp_path / "model"
    write(folder, "modules.json", listed(*LIST))
    write(folder, "1_Pooling/config.json", OLD)
    (folder / "2_Normalize").mkdir()
    write(folder, "sentence_bert_config.json", {"max_seq_length": 32})
    write(folder, "config_sentence_transformers.json", {"prompts": {"query": "query: "}})
    return folder


def refused(model: Path, *words: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        check_sentence_modules([model])
    text = str(caught.value)
    assert text.startswith(str(model))
    assert "\n" not in text
    assert [word for word in words if word not in text] == [], text


def test_all_of_it_is_copied(model: Path, tmp_path: Path) -> None:
    write(model, "1_Pooling/notes.txt", "mine")
    target = tmp_path / "target"
    target.mkdir()
    due = ["1_Pooling/config.json", "2_Normalize/", "config_sentence_transformers.json", "modules.json"]
    copy_files(dict.fromkeys(sentence_files(model), model), target)
    assert sentence_files(target) == [*due, "sentence_bert_config.json"]
    for name in (*due, "sentence_bert_config.json"):
        assert (
            (target / name).is_dir()
            if name.endswith("/")
            else (target / name).read_text() == (model / name).read_text()
        )
    assert not (target / "1_Pooling" / "notes.txt").exists()


def test_a_folder_that_git_did_not_keep(model: Path, tmp_path: Path) -> None:
    (model / "2_Normalize").rmdir()
    check_sentence_modules([model])
    assert "2_Normalize/" not in sentence_files(model)


def test_a_model_without_any(tmp_path: Path) -> None:
    (tmp_path / "1_Pooling").mkdir()
    assert read_modules(tmp_path) == []
    assert sentence_files(tmp_path) == []


@pytest.mark.parametrize("kind", ["Dense", "LayerNorm", "WeightedLayerPooling", "Router", "CNN", "StaticEmbedding"])
def test_a_module_with_weights_of_its_own(model: Path, kind: str) -> None:
    write(model, "modules.json", listed(*LIST, (kind, f"3_{kind}")))
    refused(model, f"3_{kind}", "weights of its own", "cannot be fused", "remove it from modules.json")


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin", "x.pt"])
def test_weights_in_the_folder_of_a_module_that_needs_none(model: Path, name: str) -> None:
    write(model, f"1_Pooling/{name}", "weights")
    refused(model, "1_Pooling", "weights of its own", name)


@pytest.mark.parametrize(
    "path", ["../other", "..", ".", "/etc", "a/b", "a\\b", "C:", ".git", "1_Pooling/", "a\0", None, 3]
)
def test_a_path_that_is_no_folder_beside_it(model: Path, path: Any) -> None:
    write(model.parent, "other/config.json", OLD)
    write(model, "modules.json", listed(("Transformer", ""), ("Pooling", path)))
    refused(model, "modules.json", "path", "correct the file")


@pytest.mark.parametrize("what", ["1_Pooling", "1_Pooling/config.json"])
def test_a_link_out_of_the_checkpoint(model: Path, what: str) -> None:
    outside = model.parent / "outside"
    shutil.move(model / what, outside)
    (model / what).symlink_to(outside)
    refused(model, "1_Pooling", "link", "copy the folder")


def test_links_of_the_hubs_cache(model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "models--x" / "snapshots" / "0123"
    shutil.copytree(model, folder)
    (tmp_path / "models--x" / "blobs").mkdir()
    shutil.move(folder / "1_Pooling" / "config.json", tmp_path / "models--x" / "blobs" / "abc")
    (folder / "1_Pooling" / "config.json").symlink_to("../../../blobs/abc")
    (tmp_path / "target").mkdir()
    copy_files(dict.fromkeys(sentence_files(folder), folder), tmp_path / "target")
    assert json.loads((tmp_path / "target" / "1_Pooling" / "config.json").read_text()) == OLD
    assert not (tmp_path / "target" / "1_Pooling" / "config.json").is_symlink()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", ["modules.json", "not readable"]),
        ("{}", ["modules.json", "should hold a list"]),
        ('[{"path": ""}]', ["modules.json", "type and path"]),
        ("[5]", ["modules.json", "type and path"]),
        (listed(("Transformer", "0_Transformer")), ["0_Transformer", "give that folder"]),
        (listed(("Pooler", ""), prefix="custom_st."), ["custom_st.Pooler", "code", "remove the file"]),
        (listed(*LIST[:1], ("Pooling", "9_Pooling")), ["9_Pooling", "config.json", "fetch"]),
        (listed(*LIST[:1], ("Pooling", "")), ["config.json", "fetch"]),
    ],
)
def test_what_cannot_be_copied(model: Path, content: str, words: list[str]) -> None:
    write(model, "modules.json", content)
    refused(model, *words)


def test_settings_that_are_no_json(model: Path) -> None:
    write(model, "1_Pooling/config.json", "[]")
    refused(model, "1_Pooling", "config.json", "should hold a dict")


def test_newer_names_of_the_same(model: Path) -> None:
    write(
        model,
        "modules.json",
        listed(LIST[0], ("pooling.Pooling", "1_Pooling"), prefix="sentence_transformers.x.modules."),
    )
    assert pooling_modes(read_modules(model)) == ["cls"]
    write(model, "1_Pooling/config.json", {"embedding_dimension": 24, "pooling_mode": "cls"})
    assert pooling_modes(read_modules(model)) == ["cls"]


def test_models_that_pool_otherwise(model: Path, tmp_path: Path) -> None:
    other = shutil.copytree(model, tmp_path / "other")
    check_sentence_modules([model, other, tmp_path])
    check_sentence_modules([tmp_path, other])
    write(other, "1_Pooling/config.json", {"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True})
    check_sentence_modules([tmp_path, other])  # the anchor has no such settings, and neither will the output
    with pytest.raises(CheckpointError, match=r"other: .* by mean, the anchor's by cls; .*remove its modules\.json"):
        check_sentence_modules([model, other])


@pytest.mark.parametrize(
    "name", ["README.md", "model.safetensors", "modules.json", "transfuse.json", "config.json", "vocab.txt", "notes"]
)
@pytest.mark.parametrize("folder", [False, True])
def test_a_module_in_place_of_a_file(model: Path, name: str, folder: bool) -> None:
    if folder and name in ("modules.json", "notes"):
        pytest.skip("it is a file here, or may be a folder")
    write(model, f"{name}/config.json" if folder else name, {})
    write(model, "modules.json", listed(("Transformer", ""), ("Normalize", name)))
    refused(model, "modules.json: path", repr(name), "is the name of a file", "correct the file")
