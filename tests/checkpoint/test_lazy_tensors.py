"""An index decides where tensors lie, or is refused; numbers of eight bits are read, whole numbers are not weights."""

import json
from pathlib import Path

import pytest
import torch
from checkpoints import as_pickle, as_shards, edit_weights, refuses
from safetensors.torch import load_file, save_file

from transfuse.checkpoint.reading.lazy_tensors import tensor_locations
from transfuse.checkpoint.reading.load import load_empty, load_model
from transfuse.errors import CheckpointError

QUERY = "vit.encoder.layer.0.attention.attention.query.weight"


@pytest.mark.parametrize("kept", [0, 1])
def test_a_tensor_in_two_shards(vit: Path, kept: int) -> None:
    shards = as_shards(vit)
    files = sorted(set(shards.values()))
    name = next(each for each, file in shards.items() if file == files[kept])
    other = load_file(vit / files[1 - kept])
    save_file(other | {name: torch.zeros(3)}, vit / files[1 - kept], {"format": "pt"})
    refuses(vit, "model.safetensors.index.json", name, files[kept], files[1 - kept], "remove")


def test_a_tensor_that_the_index_does_not_have(vit: Path) -> None:
    shards = as_shards(vit)
    name = next(iter(shards))
    index = vit / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": {n: f for n, f in shards.items() if n != name}}))
    refuses(vit, "model.safetensors.index.json", name, "the index has it nowhere")


@pytest.mark.parametrize("metadata", [None, "not a mapping"])
def test_an_index_without_metadata_loads(vit: Path, metadata: str | None) -> None:
    due = load_model(vit).state_dict()
    shards = as_shards(vit)
    document = {"weight_map": shards} | ({"metadata": metadata} if metadata else {})
    (vit / "model.safetensors.index.json").write_text(json.dumps(document))
    found = load_model(vit).state_dict()
    assert all(torch.equal(found[name], values) for name, values in due.items())
    assert load_empty(vit).state_dict().keys() == due.keys()
    assert json.loads((vit / "model.safetensors.index.json").read_text()) == document


@pytest.mark.parametrize("kind", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_eight_bits_are_read_as_the_numbers_they_are(vit: Path, kind: torch.dtype) -> None:
    due = load_file(vit / "model.safetensors")[QUERY].to(kind).float()
    edit_weights(vit, lambda tensors: tensors.update({QUERY: tensors[QUERY].to(kind)}))
    name = "vit.layers.0.attention.q_proj.weight"
    assert torch.equal(load_model(vit).state_dict()[name], due)
    where = tensor_locations(vit, load_empty(vit))
    assert where is not None
    assert torch.equal(where[name].read().float(), due)


def test_all_in_eight_bits_are_computed_in_more(vit: Path) -> None:
    edit_weights(vit, lambda t: t.update({n: v.to(torch.float8_e4m3fn) for n, v in t.items()}))
    assert load_model(vit).dtype == load_empty(vit).dtype == torch.bfloat16


@pytest.mark.parametrize("kind", [torch.int8, torch.uint8, torch.int64])
@pytest.mark.parametrize("pickled", [False, True])
def test_whole_numbers_are_no_weights(vit: Path, kind: torch.dtype, pickled: bool) -> None:
    edit_weights(vit, lambda tensors: tensors.update({QUERY: (100 * tensors[QUERY]).to(kind)}))
    if pickled:
        as_pickle(vit)
    refuses(vit, QUERY, "whole numbers", "dequantize", pickle="allow")
    with pytest.raises(CheckpointError, match="whole numbers"):
        load_empty(vit, pickle="allow")


def test_weights_that_lie_there_twice_are_refused(vit: Path) -> None:
    before = load_file(vit / "model.safetensors")
    as_shards(vit)
    save_file(before, vit / "model.safetensors", {"format": "pt"})
    refuses(vit, "model.safetensors and model.safetensors.index.json", "out of date")
