"""What spoils a saved checkpoint, and what is asked of one that is loaded."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedModel, ViTForImageClassification

from transfuse.checkpoint.reading.load import load_model
from transfuse.errors import CheckpointError

QUERY = "vit.encoder.layer.0.attention.attention.query.weight"  # the name in the file


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
