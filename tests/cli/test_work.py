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


@pytest.mark.parametrize("moment", ["before it is removed", "while it is removed"])
@pytest.mark.parametrize("earlier", [False, True])
def test_an_interruption_after_the_output_is_written_says_that_it_is_complete(
    earlier: bool, moment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work, out = WorkDir(tmp_path / "out.work", persistent=False), tmp_path / "out"
    remove = shutil.rmtree
    if earlier:
        out.mkdir()

    def interrupted(*given: Any, **options: Any) -> None:
        monkeypatch.setattr(shutil, "rmtree", remove)
        raise KeyboardInterrupt

    said = f"^interrupted; {out} is complete$"
    with pytest.raises(InterruptedRunError, match=said), said_how_to_continue(work.folder), working_in(work, out):  # noqa: PT012
        results = work.folder / ("0" * 20)
        results.mkdir()
        (results / "maps.safetensors").write_bytes(b"results")
        (tmp_path / "new").mkdir()
        (tmp_path / "new").replace(out)
        if moment == "before it is removed":
            raise KeyboardInterrupt
        monkeypatch.setattr(shutil, "rmtree", interrupted)
    assert not work.folder.exists()
