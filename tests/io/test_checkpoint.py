"""Each way a checkpoint can be wrong is one clear line; a sound one comes back exactly as it was saved."""

import hashlib
import json
import logging
import os
import shutil
import struct
from collections.abc import Callable
from logging.handlers import BufferingHandler
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import BertConfig, BertForMaskedLM, PreTrainedModel, ViTConfig, ViTForImageClassification, ViTModel
from transformers.utils import logging as transformers_logging

from transfuse.errors import CheckpointError
from transfuse.io.checkpoint import check_finite, load_model, local_directory
from transfuse.io.files import copy_companions, file_hashes, weight_files

QUERY = "vit.encoder.layer.0.attention.attention.query.weight"  # the name in the file


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("saved") / "vit"
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    ViTForImageClassification(ViTConfig(**sizes, image_size=8, patch_size=4, num_labels=3)).save_pretrained(path)
    return path


@pytest.fixture
def vit(saved: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(saved, tmp_path / "vit"))


def refuses(path: Path | str, *words: str, **options: Any) -> None:
    """load_model raises one line that holds every one of `words`."""
    with pytest.raises(CheckpointError) as caught:
        load_model(path, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert [word for word in words if word not in message] == [], message


def edit_config(path: Path, **changes: object) -> None:
    config = json.loads((path / "config.json").read_text())
    config = {key: value for key, value in {**config, **changes}.items() if value is not None}
    (path / "config.json").write_text(json.dumps(config))


def edit_weights(path: Path, edit: Callable[[dict[str, Tensor]], object]) -> None:
    tensors = load_file(path / "model.safetensors")
    edit(tensors)
    save_file(tensors, path / "model.safetensors", metadata={"format": "pt"})


def as_pickle(path: Path, name: str = "pytorch_model.bin") -> Path:
    torch.save(load_file(path / "model.safetensors"), path / name)
    (path / "model.safetensors").unlink()
    return path / name


def as_shards(path: Path) -> dict[str, str]:
    """Two shards and an index in place of the one file; returns weight_map."""
    tensors = load_file(path / "model.safetensors")
    (path / "model.safetensors").unlink()
    names = sorted(tensors)
    weight_map = {}
    for number, part in enumerate((names[:10], names[10:]), 1):
        shard = f"model-{number:05}-of-00002.safetensors"
        save_file({name: tensors[name] for name in part}, path / shard, metadata={"format": "pt"})
        weight_map.update(dict.fromkeys(part, shard))
    write_index(path, weight_map)
    return weight_map


def write_index(path: Path, weight_map: object) -> None:
    index = {"metadata": {"total_size": 0}, "weight_map": weight_map}
    (path / "model.safetensors.index.json").write_text(json.dumps(index))


def same_weights(model: PreTrainedModel, path: Path) -> bool:
    expected = ViTForImageClassification.from_pretrained(path, dtype=model.dtype).state_dict()
    found = model.state_dict()
    return found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in expected)


# A sound checkpoint


def test_loads_the_class_and_the_exact_weights_in_eval_mode(saved: Path) -> None:
    model = load_model(str(saved))
    assert type(model) is ViTForImageClassification
    assert not model.training
    assert same_weights(model, saved)
    on_disk = load_file(saved / "model.safetensors")[QUERY]
    assert torch.equal(model.state_dict()["vit.layers.0.attention.q_proj.weight"], on_disk)
    assert model(torch.zeros(1, 3, 8, 8)).logits.isfinite().all()  # buffers are real too, none was left on "meta"


def test_tied_weights_are_not_missing(tmp_path: Path) -> None:
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    BertForMaskedLM(BertConfig(**sizes, vocab_size=30)).save_pretrained(tmp_path)
    model = load_model(tmp_path)
    assert model.get_input_embeddings().weight is model.get_output_embeddings().weight


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_dtype_is_the_one_on_disk_whatever_the_config_says(vit: Path, dtype: torch.dtype) -> None:
    edit_weights(vit, lambda tensors: tensors.update({name: tensor.to(dtype) for name, tensor in tensors.items()}))
    edit_config(vit, dtype="float32")
    assert {parameter.dtype for parameter in load_model(vit).parameters()} == {dtype}


def test_mixed_dtypes_give_one_that_holds_them_all(vit: Path) -> None:
    def mix(tensors: dict[str, Tensor]) -> None:
        tensors.update({name: tensor.bfloat16() for name, tensor in tensors.items()})
        tensors[QUERY] = tensors[QUERY].half() * 0.999

    edit_weights(vit, mix)
    model = load_model(vit)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    query = load_file(vit / "model.safetensors")[QUERY]
    assert torch.equal(model.vit.layers[0].attention.q_proj.weight, query.float())


def test_dtype_can_be_chosen(saved: Path) -> None:
    assert {parameter.dtype for parameter in load_model(saved, dtype=torch.float64).parameters()} == {torch.float64}


def test_without_architectures_the_base_model_of_the_config(vit: Path) -> None:
    ViTModel.from_pretrained(vit).save_pretrained(vit)
    edit_config(vit, architectures=None)
    assert type(load_model(vit)) is ViTModel


def test_shards_are_put_together(vit: Path, saved: Path) -> None:
    as_shards(vit)
    assert same_weights(load_model(vit), saved)


def test_files_may_be_links_as_in_the_cache_of_the_hub(vit: Path, saved: Path, tmp_path: Path) -> None:
    as_shards(vit)
    snapshot = tmp_path / "snapshots" / "main"
    snapshot.mkdir(parents=True)
    for file in vit.iterdir():
        (snapshot / file.name).symlink_to(os.path.relpath(file, snapshot))
    assert same_weights(load_model(snapshot), saved)


def test_loading_prints_nothing_and_restores_the_settings(saved: Path, capfd: pytest.CaptureFixture[str]) -> None:
    transformers_logging.set_verbosity(logging.INFO)
    transformers_logging.enable_progress_bar()
    try:
        capfd.readouterr()
        load_model(saved)
        assert capfd.readouterr() == ("", "")
        assert transformers_logging.get_verbosity() == logging.INFO
        assert transformers_logging.is_progress_bar_enabled()
        transformers_logging.disable_progress_bar()
        load_model(saved)
        assert not transformers_logging.is_progress_bar_enabled()
    finally:
        transformers_logging.set_verbosity_warning()
        transformers_logging.enable_progress_bar()


def test_a_failure_logs_nothing_and_restores_the_settings(vit: Path) -> None:
    edit_config(vit, num_labels=5)
    handler = BufferingHandler(capacity=1000)
    transformers_logging.add_handler(handler)
    try:
        refuses(vit, "wrong shape")
        assert handler.buffer == []
        ViTForImageClassification.from_pretrained(vit, ignore_mismatched_sizes=True)
        assert handler.buffer  # transformers does log it, with the settings as they were
    finally:
        transformers_logging.remove_handler(handler)
    assert transformers_logging.get_verbosity() == logging.WARNING
    assert transformers_logging.is_progress_bar_enabled()


# The path and config.json


@pytest.mark.parametrize("name", ["/no/such/place", "../nowhere", "owner/no-such-model", "nowhere", "a b"])
def test_a_path_that_is_not_there(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    refuses(name, name, "no such directory", "hub could not be reached or has no such model")


def test_a_name_on_the_hub_is_found_in_its_cache(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    repo = tmp_path / "models--owner--name"
    shutil.copytree(saved, repo / "snapshots" / ("0" * 40))
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text("0" * 40)
    monkeypatch.chdir(tmp_path)
    assert local_directory("owner/name") == repo / "snapshots" / ("0" * 40)
    assert same_weights(load_model("owner/name"), saved)


def test_a_file_instead_of_a_directory(saved: Path) -> None:
    refuses(saved / "model.safetensors", "is a file", "give the directory")


def test_no_config(vit: Path) -> None:
    (vit / "config.json").unlink()
    refuses(vit, str(vit), "no config.json", "save_pretrained")


@pytest.mark.parametrize("text", ["{", "", "\x00", '{"model_type": "vit",}', "[" * 100_000])
def test_config_is_not_json(vit: Path, text: str) -> None:
    (vit / "config.json").write_text(text)
    refuses(vit, "config.json", "not readable as JSON")


def test_config_is_not_text(vit: Path) -> None:
    (vit / "config.json").write_bytes(b"\xff\xfe{}")
    refuses(vit, "config.json", "not readable as JSON")


@pytest.mark.parametrize("text", ["{}", "[]", "3", "null", '{"model_type": 3}', '{"model_type": null}'])
def test_config_without_model_type(vit: Path, text: str) -> None:
    (vit / "config.json").write_text(text)
    refuses(vit, "config.json", "no model_type")


def test_model_type_that_transformers_does_not_know(vit: Path) -> None:
    edit_config(vit, model_type="vjt")
    refuses(vit, "config.json", "no model_type 'vjt'")


def test_code_in_the_checkpoint_is_not_run(vit: Path, tmp_path: Path) -> None:
    (vit / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    edit_config(vit, model_type="evil", auto_map={"AutoConfig": "evil.Config", "AutoModel": "evil.Model"})
    refuses(vit, "no model_type 'evil'")
    edit_config(vit, model_type="vit")
    load_model(vit)  # as transformers' own ViT
    assert not (tmp_path / "ran").exists()


def test_config_with_an_impossible_value(vit: Path) -> None:
    edit_config(vit, hidden_size="sixteen")
    refuses(vit, "config.json", "not a valid vit config")


def test_config_whose_model_cannot_be_built(vit: Path) -> None:
    edit_config(vit, hidden_act="nonsense")
    refuses(vit, "transformers cannot load it", "nonsense")


@pytest.mark.parametrize("name", ["ViTForNothing", "pipeline", "ViTConfig", "os"])
def test_unknown_architecture(vit: Path, name: str) -> None:
    edit_config(vit, architectures=[name])
    refuses(vit, "config.json", repr(name), "no model of transformers")


def test_architecture_of_another_family(vit: Path) -> None:
    edit_config(vit, architectures=["BertModel"])
    refuses(vit, "config.json", "BertModel is not of model_type vit")


def test_weights_that_need_another_tool(vit: Path) -> None:
    edit_config(vit, quantization_config={"quant_method": "bitsandbytes"})
    refuses(vit, "quantized", "dequantize")
    edit_config(vit, quantization_config=None, transformers_weights="other.safetensors")
    refuses(vit, "transformers_weights", "remove it")
    edit_config(vit, transformers_weights=None)
    (vit / "adapter_config.json").write_text("{}")
    refuses(vit, "adapter", "merge it")
    (vit / "adapter_config.json").unlink()
    (vit / "shard-00000-model-00001-of-00001.safetensors").touch()
    refuses(vit, "distributed checkpoint", "consolidate")


# The weight files


def test_no_weights(vit: Path) -> None:
    (vit / "model.safetensors").unlink()
    refuses(vit, str(vit), "no weights", "model.safetensors")


@pytest.mark.parametrize("name", ["pytorch_model.bin", "weights.bin", "weights.pt"])
def test_pickles_are_refused(vit: Path, name: str) -> None:
    as_pickle(vit, name)
    refuses(vit, name, "--allow-pickle")


def test_pickle_index_is_refused(vit: Path) -> None:
    as_pickle(vit, "pytorch_model-00001-of-00001.bin")
    weight_map = {"x": "pytorch_model-00001-of-00001.bin"}
    (vit / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    refuses(vit, "--allow-pickle")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_an_allowed_pickle_loads(vit: Path, dtype: torch.dtype) -> None:
    edit_weights(vit, lambda tensors: tensors.update({name: tensor.to(dtype) for name, tensor in tensors.items()}))
    safe = shutil.copytree(vit, vit.parent / "safe")
    as_pickle(vit)
    model = load_model(vit, pickle="allow")
    assert model.dtype == dtype
    assert same_weights(model, safe)


def test_an_allowed_pickle_in_shards_loads(vit: Path, saved: Path) -> None:
    tensors = load_file(vit / "model.safetensors")
    as_pickle(vit, "pytorch_model-00001-of-00001.bin")
    weight_map = dict.fromkeys(tensors, "pytorch_model-00001-of-00001.bin")
    (vit / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    assert same_weights(load_model(vit, pickle="allow"), saved)


def test_safetensors_come_first_even_if_pickles_are_allowed(vit: Path, saved: Path) -> None:
    (vit / "pytorch_model.bin").write_bytes(b"never read")
    assert same_weights(load_model(vit, pickle="allow"), saved)


class Malicious:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return os.mkdir, (str(self.path),)


def test_a_malicious_pickle_is_not_executed_even_if_allowed(vit: Path, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    file = as_pickle(vit)
    torch.save({"x": Malicious(mark)}, file)
    refuses(vit, "pytorch_model.bin", "damaged, or holds more than tensors", pickle="allow")
    assert not mark.exists()
    torch.load(file, weights_only=False)  # the same file does run its code where it is trusted
    assert mark.exists()


@pytest.mark.parametrize("content", [b"", b"not a pickle", b"PK\x03\x04 cut"])
def test_a_damaged_pickle(vit: Path, content: bytes) -> None:
    as_pickle(vit).write_bytes(content)
    refuses(vit, "pytorch_model.bin", "damaged", pickle="allow")


def test_a_pickle_that_is_no_mapping_of_tensors(vit: Path) -> None:
    torch.save([torch.zeros(2)], as_pickle(vit))
    refuses(vit, "pytorch_model.bin", "holds more than tensors", pickle="allow")


def test_a_pickle_in_the_clothes_of_safetensors(vit: Path) -> None:
    as_pickle(vit).rename(vit / "model.safetensors")
    refuses(vit, "model.safetensors", "damaged")


def header(entry: object, data: bytes = b"") -> bytes:
    text = json.dumps({"x": entry}).encode()
    return struct.pack("<Q", len(text)) + text + data


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda whole: b"",
    "shorter than a header length": lambda whole: whole[:5],
    "header beyond the file": lambda whole: struct.pack("<Q", len(whole) * 2) + whole[8:],
    "header of exabytes": lambda whole: struct.pack("<Q", 2**62) + whole[8:],
    "header is not JSON": lambda whole: struct.pack("<Q", 4) + b"{]aa",
    "header is not UTF-8": lambda whole: struct.pack("<Q", 4) + b"\xff\xfe\xff\xfe",
    "data cut": lambda whole: whole[:-100],
    "data cut by a byte": lambda whole: whole[:-1],
    "trailing bytes": lambda whole: whole + b"more",
    "petabytes": lambda whole: header({"dtype": "F32", "shape": [2**50], "data_offsets": [0, 2**52]}),
    "overflow": lambda whole: header({"dtype": "F32", "shape": [2**62, 2**62], "data_offsets": [0, 4]}, b"0000"),
    "shape beyond its bytes": lambda whole: header({"dtype": "F32", "shape": [2**50], "data_offsets": [0, 4]}, b"0000"),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_damaged_safetensors(vit: Path, damage: Callable[[bytes], bytes]) -> None:
    file = vit / "model.safetensors"
    file.write_bytes(damage(file.read_bytes()))
    refuses(vit, str(file), "damaged")


def test_a_damaged_shard_is_named(vit: Path) -> None:
    as_shards(vit)
    shard = vit / "model-00002-of-00002.safetensors"
    shard.write_bytes(shard.read_bytes()[:-7])
    refuses(vit, str(shard), "damaged")


def test_missing_shard(vit: Path) -> None:
    as_shards(vit)
    (vit / "model-00002-of-00002.safetensors").unlink()
    refuses(vit, "index.json", "shard model-00002-of-00002.safetensors is missing")


def test_a_shard_that_is_a_dangling_link(vit: Path) -> None:
    as_shards(vit)
    (vit / "model-00002-of-00002.safetensors").unlink()
    (vit / "model-00002-of-00002.safetensors").symlink_to(vit / "gone")
    refuses(vit, "shard model-00002-of-00002.safetensors is missing")


@pytest.mark.parametrize(
    "name", ["../w.safetensors", "a/../../w.safetensors", "..", "sub\\w.safetensors", "evil.py", 3]
)
def test_a_shard_name_that_leads_elsewhere(vit: Path, name: object) -> None:
    weight_map: dict[str, object] = dict(as_shards(vit))
    shutil.copyfile(vit / "model-00001-of-00002.safetensors", vit.parent / "w.safetensors")  # it would be found
    write_index(vit, {**weight_map, QUERY: name})
    refuses(vit, "index.json", repr(name), "refused")


def test_an_absolute_shard_name(vit: Path) -> None:
    weight_map = as_shards(vit)
    outside = vit.parent / "w.safetensors"
    shutil.copyfile(vit / "model-00001-of-00002.safetensors", outside)
    write_index(vit, {**weight_map, QUERY: str(outside)})
    refuses(vit, "index.json", "refused")


@pytest.mark.parametrize("weight_map", [None, [], "x", 3])
def test_an_index_without_a_map(vit: Path, weight_map: object) -> None:
    as_shards(vit)
    write_index(vit, weight_map)
    refuses(vit, "index.json", "no readable weight_map")


@pytest.mark.parametrize("text", ["{", "[]", "{}"])
def test_an_index_that_is_not_one(vit: Path, text: str) -> None:
    as_shards(vit)
    (vit / "model.safetensors.index.json").write_text(text)
    refuses(vit, "index.json", "no readable weight_map")


def test_an_empty_index(vit: Path) -> None:
    as_shards(vit)
    write_index(vit, {})
    refuses(vit, "index.json", "weight_map is empty")


# The tensors


def test_missing_tensors_are_counted_and_three_are_named(vit: Path) -> None:
    edit_weights(vit, lambda tensors: [tensors.pop(name) for name in list(tensors) if "layer.1.attention" in name])
    names = [f"vit.layers.1.attention.{name}" for name in ("k_proj.bias", "k_proj.weight", "o_proj.bias")]
    refuses(vit, f"missing: 8 ({', '.join(names)}, ...)")


def test_one_missing_tensor(vit: Path) -> None:
    edit_weights(vit, lambda tensors: tensors.pop("classifier.bias"))
    refuses(vit, "missing: 1 (classifier.bias)")


def test_unexpected_tensors(vit: Path) -> None:
    edit_weights(vit, lambda tensors: tensors.update({"extra.weight": torch.zeros(2)}))
    refuses(vit, "unexpected: 1 (extra.weight)")


def test_a_renamed_tensor_is_both_missing_and_unexpected(vit: Path) -> None:
    edit_weights(vit, lambda tensors: tensors.update({"head.bias": tensors.pop("classifier.bias")}))
    refuses(vit, "missing: 1 (classifier.bias), unexpected: 1 (head.bias)")


def test_a_layer_more_than_the_config_says(vit: Path) -> None:
    edit_config(vit, num_hidden_layers=1)
    refuses(vit, "unexpected: 16 (")


def test_a_tensor_that_transformers_itself_ignores(tmp_path: Path) -> None:
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    BertForMaskedLM(BertConfig(**sizes, vocab_size=30)).save_pretrained(tmp_path)
    position_ids = {"bert.embeddings.position_ids": torch.arange(8)}
    edit_weights(tmp_path, lambda tensors: tensors.update(position_ids))
    assert type(load_model(tmp_path)) is BertForMaskedLM


def test_a_wrong_shape(vit: Path) -> None:
    edit_weights(vit, lambda tensors: tensors.update({"classifier.weight": torch.zeros(5, 16)}))
    refuses(vit, "of a wrong shape: 1 (classifier.weight (5, 16) for (3, 16))")


def test_a_config_of_terabytes_allocates_nothing(vit: Path) -> None:
    edit_config(vit, hidden_size=2_000_000)
    refuses(vit, "of a wrong shape", "(2000000,)")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_values_that_are_not_finite(vit: Path, value: float, dtype: torch.dtype) -> None:
    def poison(tensors: dict[str, Tensor]) -> None:
        tensors.update({name: tensor.to(dtype) for name, tensor in tensors.items()})
        tensors[QUERY][1, 2:5] = value

    edit_weights(vit, poison)
    refuses(vit, str(vit), "3 of 256 values of vit.layers.0.attention.q_proj.weight are NaN or infinite")


def test_a_dtype_too_narrow_for_the_weights(vit: Path) -> None:
    edit_weights(vit, lambda tensors: tensors["classifier.bias"].fill_(1e6))
    assert load_model(vit).classifier.bias.max() == 1e6
    refuses(vit, "3 of 3 values of classifier.bias", "torch.float16", dtype=torch.float16)


def test_check_finite() -> None:
    sound = {"a": torch.zeros(3), "b": torch.ones(2, dtype=torch.int64), "c": torch.empty(0)}
    check_finite(sound, "here")
    with pytest.raises(CheckpointError, match=r"^here: 1 of 3 values of n \(and some in 1 more tensors\) are NaN"):
        check_finite({**sound, "n": torch.tensor([0.0, torch.nan, 1.0]), "m": torch.tensor(torch.inf)}, "here")


# Hashes and companions


def test_hashes_are_those_of_the_files(vit: Path) -> None:
    as_shards(vit)
    (vit / "README.md").write_text("no part of it")
    hashes = file_hashes(vit)
    assert list(hashes) == ["config.json", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    assert hashes == {name: hashlib.sha256((vit / name).read_bytes()).hexdigest() for name in hashes}


def test_hashes_of_a_pickle(vit: Path) -> None:
    file = as_pickle(vit)
    assert file_hashes(vit)[file.name] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert weight_files(vit, "allow") == [file]


def test_companions_are_copied_and_nothing_else(vit: Path, tmp_path: Path) -> None:
    wanted = {
        *("preprocessor_config.json", "processor_config.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt"),
        *("vocab.json", "merges.txt", "special_tokens_map.json", "chat_template.jinja", "generation_config.json"),
        *("spiece.model", "cl100k.tiktoken", "added_tokens.json"),
    }
    others = {
        "README.md",
        "modeling.py",
        "pytorch_model.bin",
        "optimizer.pt",
        "trainer_state.json",
        ".env",
        "vocab.bin",
    }
    for name in wanted | others:
        (vit / name).write_text(name)
    (vit / "tokenizer.model").mkdir()
    target = tmp_path / "target"
    target.mkdir()
    assert copy_companions(vit, target) == sorted(wanted)
    assert {file.name: file.read_text() for file in target.iterdir()} == {name: name for name in wanted}


def test_a_linked_companion_is_copied_as_a_file(tmp_path: Path) -> None:
    (tmp_path / "blob").write_text("{}")
    for name in ("source", "target"):
        (tmp_path / name).mkdir()
    (tmp_path / "source" / "tokenizer.json").symlink_to("../blob")
    copy_companions(tmp_path / "source", tmp_path / "target")
    assert not (tmp_path / "target" / "tokenizer.json").is_symlink()
    assert (tmp_path / "target" / "tokenizer.json").read_text() == "{}"


def test_finite_numbers_may_have_a_sum_that_is_not() -> None:
    large = torch.full((1000,), 6e4, dtype=torch.float16)
    assert large.sum().isinf()
    check_finite({"a": large}, "model")
    for bad in (float("nan"), float("inf"), float("-inf")):
        for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
            values = torch.tensor([1.0, bad, -bad, 2.0], dtype=dtype)
            with pytest.raises(CheckpointError, match="2 of 4 values of a"):
                check_finite({"a": values}, "model")
