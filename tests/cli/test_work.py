"""When the folder of unfinished work stays beside the output."""

from pathlib import Path

import pytest

from transfuse.cli.jobs.work import working_in
from transfuse.cli.targets import WorkDir
from transfuse.errors import (
    ConfigError,
    DataError,
    DivergedError,
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
