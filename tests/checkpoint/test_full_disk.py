"""A full disk is one clear error, and leaves what was there before."""

import os
import resource
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from outputs import refuses, tree
from PIL import Image
from safetensors.torch import save_file
from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessorPil

from transfuse.checkpoint.writing.output import atomic_directory, check_target, write_json
from transfuse.errors import DiskFullError, OutputError
from transfuse.finetuning.finetune import finetune


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = shutil.which("mount")
    if mount is None or subprocess.run([mount, "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], check=False).returncode:
        pytest.skip("mounting a tiny file system needs root; the limit on file sizes stands in for it")
    yield disk
    subprocess.run(["umount", disk], check=True)


WRITERS: dict[str, Callable[[Path], object]] = {
    "python": lambda path: (path / "big").write_bytes(bytes(200_000)),
    "safetensors": lambda path: save_file({"x": torch.zeros(50_000)}, path / "model.safetensors"),
}


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_a_full_disk(small_disk: Path, write: Callable[[Path], object]) -> None:
    target = small_disk / "out"

    def work() -> None:
        with atomic_directory(target) as partial:
            write(partial)

    with pytest.raises(OutputError, match=f"^{target}: no space left.*free some space, or choose another disk$"):
        work()
    assert tree(small_disk) == {}
    with atomic_directory(target) as partial:  # the space is free again
        (partial / "a").write_text("new")
    assert tree(small_disk) == {"out": None, "out/a": "new"}


def test_a_full_disk_leaves_the_old_json(small_disk: Path) -> None:
    write_json(small_disk / "report.json", {"a": 1})
    with pytest.raises(OutputError, match=r"report\.json: cannot be written \(No space left"):
        write_json(small_disk / "report.json", "x" * 200_000)
    assert tree(small_disk) == {"report.json": '{\n  "a": 1\n}\n'}


def test_a_mount_point(small_disk: Path) -> None:
    refuses("is a mount point", small_disk)
    check_target(small_disk / "out")


@pytest.mark.skipif(os.name != "posix", reason="limits on file sizes are POSIX")
def test_a_limit_on_file_sizes_counts_as_a_full_disk(tmp_path: Path) -> None:
    script = f"""
        import resource, signal, torch
        from pathlib import Path
        from safetensors.torch import save_file
        from transfuse.errors import OutputError
        from transfuse.checkpoint.writing.output import atomic_directory
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        def safetensors(path): save_file({{"x": torch.zeros(50_000)}}, path / "model.safetensors")
        def python(path): (path / "big").write_bytes(bytes(200_000))
        for write in (safetensors, python):
            try:
                with atomic_directory(Path({str(tmp_path / "out")!r})) as partial:
                    write(partial)
            except OutputError as error:
                print(error)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("out: no space left") == 2
    assert tree(tmp_path) == {}


@pytest.mark.skipif(os.name != "posix", reason="limits on file sizes are POSIX")
@pytest.mark.parametrize("size", [8 * 2**10, 150_000])  # less than the weights need, and than the state of AdamW
def test_a_full_disk_while_fine_tuning_saves_its_state(tmp_path: Path, size: int) -> None:
    sizes = {"hidden_size": 32, "intermediate_size": 64, "image_size": 8, "patch_size": 4, "num_channels": 1}
    config = ViTConfig(num_hidden_layers=3, num_attention_heads=2, **sizes)
    samples = [{"image": Image.new("L", (8, 8), index), "label": index % 2} for index in range(4)]
    processor = ViTImageProcessorPil(size={"height": 8, "width": 8}, image_mean=[0.5], image_std=[0.5])
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        with pytest.raises(DiskFullError, match=f"^{tmp_path}/state: no space left"):
            finetune(ViTForImageClassification(config), samples, processor=processor, checkpoints=tmp_path / "state")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
