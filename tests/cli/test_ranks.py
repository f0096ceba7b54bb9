"""Two processes on one fusion give what one gives; one that ends, ends all."""

import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from cli_inputs import Run, World, one_line
from safetensors.torch import load_file

import transfuse
from transfuse.base.distributed import ProcessGroup
from transfuse.errors import ConfigError

LAUNCH = (sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "-m", "transfuse")
ENVIRONMENT = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
WAYS = {
    "least squares": ("--merge", "least-squares"),
    "flow": ("--align", "flow"),
    "streamed flow": ("--align", "flow", "--max-memory", "601MiB"),
    "learned": ("--align", "learned", "--steps", 4, "--merge", "mean"),
    "learned weights": ("--merge", "learned", "--steps", 4, "--batch-size", 1),
}


def job(world: World, way: str, name: str) -> list[str]:
    samples = world.images if way == "learned weights" else world.bare  # twelve, and six
    data = () if way.startswith("streamed") else ("--data", samples, "--samples", 10, "--batch-size", 3)
    given = ("fuse", world.a, world.b, "-o", world.here / name, *data, *WAYS[way], "--json")
    return [str(each) for each in given]


def launched(command: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a command in two processes."""
    ran = subprocess.run([*LAUNCH, *command], capture_output=True, text=True, env=ENVIRONMENT)
    if "before it begins" in ran.stderr:
        pytest.skip("on this machine, Python and its libraries take more memory than the limit of the test")
    assert ran.returncode == 0, ran.stderr
    return ran


@pytest.mark.parametrize(
    "way", ["least squares", *(pytest.param(way, marks=pytest.mark.slow) for way in WAYS if way != "least squares")]
)
def test_two_processes_fuse_as_one(way: str, world: World, run: Run) -> None:
    assert run(*job(world, way, "one")).status == 0
    ran = launched(job(world, way, "two"))
    assert ran.stdout.count('"output"') == 1, "one process speaks"
    assert {path.name for path in world.here.iterdir()} == {"one", "two"}
    one, two = (load_file(world.here / name / "model.safetensors") for name in ("one", "two"))
    for name, values in one.items():
        if not way.startswith("learned"):  # each process draws samples of its own
            torch.testing.assert_close(two[name], values, atol=1e-6, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("way", ["least squares", "streamed flow"])
def test_two_processes_take_up_what_is_whole_in_a_cache(way: str, world: World) -> None:
    """Every third entry was damaged since."""
    outputs = []
    for name in ("one", "two"):
        launched([*job(world, way, name), "--cache", str(world.here / "cache")])
        outputs.append(load_file(world.here / name / "model.safetensors"))
        for file in sorted((world.here / "cache").rglob("*.safetensors"))[::3]:
            file.write_bytes(file.read_bytes()[:-50] + bytes(50))
    for name, values in outputs[0].items():
        torch.testing.assert_close(outputs[1][name], values, atol=1e-6, rtol=1e-6)


@pytest.mark.slow
def test_a_process_that_ends_ends_all(world: World) -> None:
    arguments = job(world, "learned", "out")
    arguments[arguments.index("--steps") + 1] = "1000000"
    started = subprocess.Popen(
        [*LAUNCH, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT
    )
    try:
        children: list[str] = []
        while not list(world.here.glob("out.work/**/learning.pt")):
            assert started.poll() is None, started.communicate()
            time.sleep(0.1)
        children = subprocess.run(["pgrep", "-P", str(started.pid)], capture_output=True, text=True).stdout.split()
        os.kill(int(children[1]), signal.SIGKILL)
        out, _ = started.communicate(timeout=60)
    finally:
        started.kill()
    assert started.returncode != 0
    assert out == ""
    assert [path.name for path in world.here.iterdir()] == ["out.work"], "nothing but finished work"


def test_what_runs_in_one_process_is_refused(world: World, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transfuse.base.distributed.process_group", lambda: ProcessGroup(0, 2))
    ran = run("carry", world.a, world.a, world.b, "-o", world.here / "new" / "out")
    one_line(ran, ["carrying runs in one process; start it without torchrun"])
    assert world.listing() == {}
    with pytest.raises(ConfigError, match="carrying runs in one process"):
        transfuse.carry(world.a, world.a, world.b)
    with pytest.raises(ConfigError, match="shrinking runs in one process"):
        transfuse.shrink(world.a, str(world.images), layers=1)
