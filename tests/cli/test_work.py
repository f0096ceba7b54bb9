"""When the folder of unfinished work stays beside the output."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from transfuse.cli.jobs.work import working_in
from transfuse.cli.targets import WorkDir, said_how_to_continue
from transfuse.errors import (
    ConfigError,
    DataError,
    DivergedError,
    InterruptedRunError,
    MemoryLimitError,
    OutputError,
    SpecError,
    TransfuseError,
)


@pytest.mark.parametrize(
    ("error", "stays"),
    [
        (ConfigError, False),
        (DataError, False),
        (SpecError, False),
        (DivergedError, False),
        (MemoryLimitError, True),
        (OutputError, True),
        (KeyboardInterrupt, True),
    ],
)
def test_work_stays_if_the_same_command_can_go_on(
    tmp_path: Path, error: type[TransfuseError] | type[KeyboardInterrupt], stays: bool
) -> None:
    work = WorkDir(tmp_path / "out.work", persistent=False)
    with pytest.raises(error), working_in(work, tmp_path / "out"):  # noqa: PT012
        results = work.folder / ("0" * 20)
        results.mkdir()
        (results / "maps.safetensors").write_bytes(b"results")
        raise error("no")
    assert work.folder.exists() == stays


def test_an_interruption_while_work_is_removed_says_that_the_output_is_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = WorkDir(tmp_path / "out.work", persistent=False)
    remove = shutil.rmtree

    def interrupted(*given: Any, **options: Any) -> None:
        monkeypatch.setattr(shutil, "rmtree", remove)
        raise KeyboardInterrupt

    said = f"^interrupted; {tmp_path / 'out'} is complete$"
    working = working_in(work, tmp_path / "out")
    with pytest.raises(InterruptedRunError, match=said), said_how_to_continue(work.folder), working as written:  # noqa: PT012
        results = work.folder / ("0" * 20)
        results.mkdir()
        (results / "maps.safetensors").write_bytes(b"results")
        written()
        monkeypatch.setattr(shutil, "rmtree", interrupted)
    assert not work.folder.exists()
