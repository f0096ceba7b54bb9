"""Tensors that are written and mapped are what they were, and count as no memory that the process may write."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from cases import LLAMA
from transformers import LlamaConfig, LlamaForCausalLM

from transfuse.base.lazy import Lazy
from transfuse.checkpoint.reading.spill import TensorSpill
from transfuse.errors import OutputError

LIMITED = """
import resource, sys
from pathlib import Path
import psutil
import torch
from transfuse.checkpoint.reading.load import load_empty
from transfuse.checkpoint.reading.mapped_model import map_model
from transfuse.checkpoint.reading.spill import TensorSpill

folder = Path(sys.argv[1])
load_empty(folder)
limit = psutil.Process().memory_info().data + 2**24
resource.setrlimit(resource.RLIMIT_DATA, (limit, -1))
spill = TensorSpill(folder)
model = map_model(folder, load_empty(folder), spill)
print(sum(values.nbytes for values in model.parameters()) > 2**25, len(spill.mappings))
print(sum(float(values.sum()) for values in model.parameters()))
assert resource.getrlimit(resource.RLIMIT_DATA)[0] == limit
"""


def test_values_strides_and_order_remain(tmp_path: Path) -> None:
    torch.manual_seed(0)
    whole = torch.randn(4, 5, 6)
    tensors = {
        "plain": whole,
        "transposed": torch.randn(7, 3).T,
        "moved": whole.movedim(0, -1),
        "part": whole[:, 1:3],
        "spread": torch.randn(3, 1).expand(3, 4),
        "number": torch.tensor(2.0),
        "none": torch.zeros(0, 3),
        "half": torch.randn(3, 3).bfloat16(),
        "integers": torch.arange(5),
    }
    spilled = TensorSpill(tmp_path / "new")(Lazy.of(tensors))
    assert list(spilled) == list(tensors)
    for name, values in tensors.items():
        assert torch.equal(spilled[name], values)
        assert spilled[name].dtype == values.dtype
        assert spilled[name].data_ptr() % 64 == 0
        if name not in ("part", "spread"):
            assert spilled[name].stride() == values.stride(), name
    assert not list((tmp_path / "new").iterdir())


def test_what_is_mapped_is_not_written_again(tmp_path: Path) -> None:
    spill = TensorSpill(tmp_path)
    once = spill({"a": torch.randn(3, 4)})
    twice = spill({"a": once["a"].T, "b": torch.ones(2)})
    assert twice["a"].data_ptr() == once["a"].data_ptr()
    assert len(spill.mappings) == 2
    del once, twice
    assert not spill.mappings


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="file"):
        TensorSpill(tmp_path / "file")({"a": torch.ones(2)})


@pytest.mark.skipif(sys.platform != "linux", reason="the limit counts private mappings on Linux")
def test_a_file_may_be_larger_than_the_limit(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**LLAMA | {"intermediate_size": 2**16}))
    model.save_pretrained(tmp_path)
    run = subprocess.run([sys.executable, "-c", LIMITED, str(tmp_path)], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-1000:]
    total = sum(float(values.detach().double().sum()) for values in model.parameters())
    mapped, threads, found = run.stdout.split()
    assert (mapped, threads) == ("True", "1")
    assert float(found) == pytest.approx(total, rel=1e-3)  # sums in another order
