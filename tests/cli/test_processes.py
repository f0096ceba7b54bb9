"""What only a process of its own shows: what is imported, exit statuses, and what comes out on which stream."""

import io
import json
import os
import resource
import signal
import subprocess
import sys
import textwrap
import time
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from cli_inputs import Run, World

ENVIRONMENT = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}


def transfuse(*arguments: object, before: Callable[[], None] | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "transfuse", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=ENVIRONMENT, preexec_fn=before)


@pytest.mark.parametrize(
    "arguments", [["--help"], ["-h"], ["fuse", "--help"], ["eval", "-h"], ["path", "-h"], ["demo", "-h"]]
)
def test_help_comes_without_the_slow_libraries(arguments: list[str]) -> None:
    """Importing one of them alone takes longer than help may."""
    program = f"""
        import sys
        from transfuse.cli import main
        sys.argv = ["transfuse", *{arguments!r}]
        try:
            main()
        finally:
            slow = {{"torch", "transformers", "datasets", "scipy", "matplotlib", "numpy"}} & set(sys.modules)
            print("slow:", sorted(slow), file=sys.stderr)
    """
    ran = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=True)
    assert ran.stderr == "slow: []\n"
    assert ran.stdout.startswith("Usage: transfuse")
    assert "..." not in ran.stdout.partition("Commands:")[2], "a summary is cut off"


def test_statuses_of_what_needs_no_model(tmp_path: Path) -> None:
    bare = transfuse()
    assert (bare.returncode, bare.stdout) == (2, "")
    assert "Commands:" in bare.stderr
    version = transfuse("--version")
    assert (version.returncode, version.stderr) == (0, "")
    assert version.stdout.startswith("transfuse 0.")
    unknown = transfuse("fuse", "--algin")
    assert (unknown.returncode, unknown.stdout) == (2, "")
    assert unknown.stderr.count("\n") == 1
    with open("/dev/full", "w") as full:
        ran = subprocess.run(
            [sys.executable, "-m", "transfuse", "--version"], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert ran.returncode == 2
    assert ran.stderr == "transfuse: input or output: No space left on device\n"


def test_a_closed_stdout_is_no_error() -> None:
    ran = transfuse("--version", before=lambda: os.close(1))
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")


def test_names_that_the_terminal_cannot_show_are_escaped(
    world: World, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(written, encoding="latin-1"))
    ran = run("fuse", world.a, world.b, "-o", world.here / "模型", "--align", "none")
    assert (ran.status, ran.err) == (0, "")
    assert rb"\u6a21\u578b" in written.getvalue()


def test_streams_are_clean(world: World) -> None:
    """Libraries would report loading, writing and saving on stderr; stdout is one document."""
    ran = transfuse(
        "fuse", world.a, world.b, "-o", world.here / "out", "--data", world.images, "--minutes", "0.1", "--json"
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert json.loads(ran.stdout)["match_on"] == "weights"


def limit_files() -> None:
    """No file may grow beyond 8 KiB: writing the weights fails as it does on a full disk."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))


def test_a_full_disk_leaves_nothing(world: World) -> None:
    ran = transfuse("fuse", world.a, world.b, "-o", world.here / "new" / "out", before=limit_files)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr.count("\n") == 1
    assert "no space left" in ran.stderr
    assert world.listing() == {}


def test_an_interrupt_is_one_line_and_leaves_only_finished_work(world: World) -> None:
    """Interrupted while it writes."""
    program = f"""
        import signal, sys, time
        from transformers import PreTrainedModel
        from transfuse.cli import main

        signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background
        save = PreTrainedModel.save_pretrained
        def slowly(model, folder, *arguments, **options):
            save(model, folder, *arguments, **options)
            with open({str(world.here / "saving")!r}, "w") as mark:  # an interrupt in a finaliser would be lost
                mark.write(str(folder))
            time.sleep(60)
        PreTrainedModel.save_pretrained = slowly
        sys.argv = ["transfuse", "fuse", {str(world.a)!r}, {str(world.b)!r}, "-o", {str(world.here / "out")!r}]
        main()
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT)
    mark = world.here / "saving"
    try:
        while not (mark.exists() and mark.read_text()):
            assert process.poll() is None, process.communicate()
            time.sleep(0.05)
        assert (Path(mark.read_text()) / "model.safetensors").exists(), "nothing to clean up yet"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
    said = f"transfuse: interrupted; the same command with --resume continues from {world.here / 'out.work'}\n"
    assert (process.returncode, out, err) == (130, "", said)
    assert [name for name in world.listing() if not name.startswith("out.work")] == ["saving"]


def test_an_interrupt_during_the_start_is_one_line() -> None:
    """Interrupted while the command line is imported, from `python -m transfuse` and from the installed command."""
    scripts = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    module, _, function = scripts["scripts"]["transfuse"].partition(":")
    start = """
        import runpy, sys

        class Interrupt:
            def find_spec(self, name, *others):
                if name == "transfuse.cli.application":
                    raise KeyboardInterrupt

        sys.meta_path.insert(0, Interrupt())
        sys.argv = ["transfuse", "--help"]
    """
    installed = f"from {module} import {function}; {function}()"
    for end in (installed, "runpy.run_module('transfuse', run_name='__main__')"):
        program = textwrap.dedent(start) + end
        ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=ENVIRONMENT)
        assert (ran.returncode, ran.stdout, ran.stderr) == (130, "", "transfuse: interrupted\n")


def test_a_reader_that_leaves_is_no_error(world: World) -> None:
    """`transfuse ... | head -1`"""
    program = "import sys; from transfuse.cli import main; sys.argv = ['transfuse', 'fuse', '--help']; main()"
    reader, writer = os.pipe()
    os.close(reader)
    ran = subprocess.run([sys.executable, "-c", program], stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert (ran.returncode, ran.stderr) == (1, "")
