"""Fusing from file to file gives what fusing in memory gives, bit for bit; what cannot be streamed is said to be so."""

import pytest
import torch
from cases import CASES
from safetensors.torch import load_file

import transfuse
from transfuse.config import Options
from transfuse.errors import CheckpointError
from transfuse.io.files import weight_files
from transfuse.io.stored import places
from transfuse.streaming import stream, streamable

BY_NAME = {case.name: case for case in CASES}
VIT = CASES[0]


def saved(case, folder, seeds=(0, 1), dtype=torch.float32, **how):
    paths = []
    for seed in seeds:
        case.build(seed).to(dtype).save_pretrained(folder / f"{seed}", **how)
        paths.append(str(folder / f"{seed}"))
    return paths


def stored(folder):
    return {name: values for file in weight_files(folder) for name, values in load_file(file).items()}


def same(folder, other):
    one, two = stored(folder), stored(other)
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) and one[name].dtype == two[name].dtype for name in one)
    return True


@pytest.mark.parametrize("align", ["none", "flow", "exact"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_streaming_is_fusing_in_memory_bit_for_bit(tmp_path, case, align):
    models = saved(case, tmp_path)
    if not streamable(models, Options(align=align), False):
        assert places(tmp_path / "0", case.build()) is None
        with pytest.raises(CheckpointError, match="can only be loaded"):
            stream(models, tmp_path / "out", align=align)
        return
    stream(models, tmp_path / "streamed", align=align)
    transfuse.fuse(models, align=align).save(tmp_path / "loaded")
    assert same(tmp_path / "streamed", tmp_path / "loaded")
    reloaded = case.architecture.from_pretrained(tmp_path / "streamed")
    assert torch.isfinite(case.logits(reloaded.double())).all()
