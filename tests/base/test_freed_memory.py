"""Freed memory goes back to the system."""

import sys

import psutil
import pytest
import torch

from transfuse.base.freed_memory import return_freed_memory


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only glibc keeps arenas")
def test_what_small_tensors_took_is_returned():
    process = psutil.Process()
    tensors = [torch.ones(2**13) for _ in range(2**12)]  # 128 MB in blocks too small to be mapped on their own
    kept = [torch.ones(2**13) for _ in range(1)]  # at the top of the heap, which is shrunk without help
    full = process.memory_info().rss
    tensors.clear()
    return_freed_memory()
    assert process.memory_info().rss < full - 2**26
    assert len(kept) == 1
