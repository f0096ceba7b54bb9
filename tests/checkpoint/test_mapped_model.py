"""A model whose weights are mapped is the loaded one, bit for bit, in every family and every precision."""

from pathlib import Path

import pytest
import torch
from cases import CASES, Case
from checkpoints import edit_weights

from transfuse.base.batch import cast
from transfuse.checkpoint.reading.lazy_tensors import tensor_locations
from transfuse.checkpoint.reading.load import load_empty, load_model
from transfuse.checkpoint.reading.mapped_model import map_model
from transfuse.checkpoint.reading.spill import TensorSpill
from transfuse.errors import CheckpointError
from transfuse.network.model import network

CPU = torch.device("cpu")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@torch.no_grad()
def test_a_mapped_model_is_the_loaded_one(tmp_path: Path, case: Case, dtype: torch.dtype) -> None:
    case.build(0).to(dtype).save_pretrained(tmp_path)
    empty = load_empty(tmp_path)
    if tensor_locations(tmp_path, empty) is None:
        with pytest.raises(CheckpointError, match="not stored one by one"):
            map_model(tmp_path, empty, TensorSpill(tmp_path))
        return
    loaded = network(load_model(tmp_path), CPU).model
    mapped = map_model(tmp_path, empty, TensorSpill(tmp_path))
    for kind in ("named_parameters", "named_buffers"):
        expected, found = (list(getattr(model, kind)()) for model in (loaded, mapped))
        assert [name for name, _ in found] == [name for name, _ in expected]
        for (name, one), (_, other) in zip(expected, found, strict=True):
            assert torch.equal(one, other), name
            assert (one.dtype, one.device, one.stride()) == (other.dtype, other.device, other.stride()), name
            assert one.requires_grad == other.requires_grad
    inputs = cast(case.inputs(loaded.config), loaded.dtype)
    one, other = loaded(**inputs), mapped(**inputs)
    assert one.keys() == other.keys()
    for name, values in one.items():
        assert not isinstance(values, torch.Tensor) or torch.equal(values, other[name]), name


def test_numbers_that_are_none_are_found(tmp_path: Path) -> None:
    CASES[0].build(0).float().save_pretrained(tmp_path)
    edit_weights(tmp_path, lambda tensors: next(iter(tensors.values())).view(-1)[0].fill_(float("nan")))
    with pytest.raises(CheckpointError, match="NaN"):
        map_model(tmp_path, load_empty(tmp_path), TensorSpill(tmp_path))
