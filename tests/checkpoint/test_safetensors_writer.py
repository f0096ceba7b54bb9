"""A file is written from shapes known in advance, which its tensors must have."""

from pathlib import Path

import pytest
import torch

from transfuse.checkpoint.writing.safetensors_writer import write_shards
from transfuse.errors import SpecError


@pytest.mark.parametrize("values", [torch.zeros(2), torch.zeros(3, dtype=torch.float16)])
def test_another_shape_or_precision_is_refused(tmp_path: Path, values: torch.Tensor) -> None:
    with pytest.raises(SpecError, match=r"^bias: is torch.float\d\d of .* instead of torch.float32 of"):
        write_shards(tmp_path, {"model.safetensors": {"bias": (3,)}}, torch.float32, lambda name: values)
