"""Each way a weight file or an index can be wrong is one clear line; a pickle is read on request, and never run."""

import json
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from checkpoints import QUERY, as_pickle, as_shards, edit_weights, refuses, same_weights, write_index
from safetensors.torch import load_file

from transfuse.checkpoint.reading.load import load_model
from transfuse.errors import CheckpointError


def test_no_weights(vit: Path) -> None:
    (vit / "model.safetensors").unlink()
    refuses(vit, str(vit), "no weights", "model.safetensors")


def test_a_model_of_the_hub_may_have_pickles_that_were_not_fetched(vit: Path, tmp_path: Path) -> None:
    (vit / "model.safetensors").unlink()
    (tmp_path / "models--owner--name" / "snapshots").mkdir(parents=True)
    fetched = vit.rename(tmp_path / "models--owner--name" / "snapshots" / "0a1b")
    refuses(fetched, "no weights", "pass --allow-pickle")
    with pytest.raises(CheckpointError, match=r"expected model.safetensors or model.safetensors.index.json$"):
        load_model(fetched, pickle="allow")


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
