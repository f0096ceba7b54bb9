"""The limit of a run's memory: it ends the run with one line, and no native library meets it."""

import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from transfuse.base.budget import check_free_memory, free_bytes
from transfuse.base.memory_limit import memory_limit
from transfuse.errors import ConfigError, MemoryLimitError

LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells pages of files apart")
IMPORTS = """
import resource, threading, time
import psutil
import torch
from transfuse.base.budget import free_bytes
from transfuse.base.in_parts import run_in_parts
from transfuse.base import memory_limit as memory_limits
from transfuse.base.memory_limit import is_out_of_memory, memory_limit
from transfuse.errors import ConfigError
own = psutil.Process().memory_info().rss
"""


def test_less_than_there_is_already() -> None:
    with pytest.raises(ConfigError, match=r"max_memory: this process takes .* before it begins"), memory_limit(2**20):
        pass


def test_macos_does_not_tell_how_large_the_data_segment_is(monkeypatch: pytest.MonkeyPatch) -> None:
    usage = SimpleNamespace(rss=10**9, vms=10**9)
    monkeypatch.setattr("psutil.Process", lambda: SimpleNamespace(memory_info=lambda: usage))
    with memory_limit(2**40):
        assert free_bytes(torch.device("cpu")) < 2**40


GB, GPU = 10**9, torch.device("cuda:1")


@pytest.fixture
def fractions(monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, torch.device]]:
    """Shares of its memory that a pretended GPU was limited to. It has 80 GB; 20 are in use, 4 of them here."""
    set_to: list[tuple[float, torch.device]] = []
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(total_memory=80 * GB))
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", lambda *given: set_to.append(given))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (60 * GB, 80 * GB))
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 4 * GB)
    return set_to


def test_the_gpu_of_the_run_is_limited_while_it_runs(fractions: list[tuple[float, torch.device]]) -> None:
    with memory_limit(None, 20 * GB, GPU):
        assert fractions == [(0.25, GPU)]
        assert free_bytes(GPU) == 16 * GB
        with pytest.raises(ConfigError, match=r"max_device_memory: training takes about .*; allow at least"):
            check_free_memory(17 * GB, GPU, "training", pytest.fail)
    assert fractions == [(0.25, GPU), (1.0, GPU)]
    assert free_bytes(GPU) == 60 * GB
    with memory_limit(None, 100 * GB, GPU):
        assert fractions[-1] == (1.0, GPU)
        assert free_bytes(GPU) == 60 * GB


def test_what_the_gpu_lacks_is_not_blamed_on_the_host() -> None:
    with pytest.raises(torch.OutOfMemoryError), memory_limit(2**60):
        raise torch.OutOfMemoryError("CUDA out of memory")
    with pytest.raises(MemoryLimitError, match="max_memory: this run needs more than"), memory_limit(2**60):
        raise MemoryError


def test_without_a_gpu_there_is_none_to_limit() -> None:
    words = "max_device_memory: this run computes on cpu, and only a CUDA GPU takes a limit"
    with pytest.raises(ConfigError, match=words), memory_limit(None, 20):
        pass


@LINUX
def test_what_grows_in_small_steps_is_ended_with_one_error() -> None:
    done = run("""
kept = []
try:
    with memory_limit(own + 100_000_000):
        assert memory_limits.NAME in {thread.name for thread in threading.enumerate()}
        assert 50_000_000 < free_bytes(torch.device("cpu")) <= 100_000_000
        kept.append(torch.ones(10_000_000))
        while len(kept) < 1_000:
            kept.append(torch.ones(1_000_000))
except ConfigError as error:
    assert "this run needs more than" in str(error)
else:
    raise SystemExit("took more")
assert 10 <= len(kept) < 80, len(kept)
time.sleep(0.1)
torch.ones(200_000_000)
assert resource.getrlimit(resource.RLIMIT_DATA)[0] == -1
assert memory_limits.NAME not in {thread.name for thread in threading.enumerate()}
""")
    assert done.returncode == 0, done.stderr


@LINUX
def test_one_tensor_that_is_far_too_large_is_refused_by_the_system() -> None:
    done = run("""
with memory_limit(own + 300_000_000):
    assert 250_000_000 < free_bytes(torch.device("cpu")) <= 300_000_000
    torch.ones(25_000_000)
    try:
        torch.ones(200_000_000)
    except RuntimeError as error:
        assert is_out_of_memory(error)
    else:
        raise SystemExit("took more")
torch.ones(200_000_000)
""")
    assert done.returncode == 0, done.stderr


@LINUX
def test_a_batch_that_does_not_fit_is_cut() -> None:
    """In steps that are small enough for the watch to notice, and with time to free what was taken."""
    done = run("""
def work(rows):
    taken = []
    for _ in range(10 * len(rows)):
        taken.append(torch.ones(1_000_000))
        time.sleep(0.005)
    return len(rows)

with memory_limit(own + 150_000_000):
    counts = run_in_parts(work, lambda rows: [rows[::2], rows[1::2]] if len(rows) > 1 else [], list(range(8)))
assert sum(counts) == 8 and 1 < len(counts) < 8, counts
""")
    assert done.returncode == 0, done.stderr


def run(script: str) -> "subprocess.CompletedProcess[str]":
    """Run a script in a process of its own, because a limit counts all that a process has taken before."""
    return subprocess.run([sys.executable, "-c", IMPORTS + script], capture_output=True, text=True, timeout=120)


@LINUX
@pytest.mark.parametrize(
    ("size", "words"), [("100MB", "before it begins; allow more"), ("10000000TB", "no such directory")]
)
def test_a_command_is_bounded_before_it_begins(size: str, words: str) -> None:
    given = ["eval", "nowhere", "--data", "nothing", "--max-memory", size]
    done = subprocess.run([sys.executable, "-m", "transfuse", *given], capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert done.stderr.startswith("transfuse: ")
    assert words in done.stderr
    assert done.stderr.count("\n") == 1
