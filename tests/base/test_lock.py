"""A lock is held by one at a time, and leaves a file only where it is wanted."""

from pathlib import Path

import pytest

from transfuse.base import lock
from transfuse.base.lock import file_lock, folder_lock, is_locked, output_lock_path
from transfuse.errors import OutputError


@pytest.mark.parametrize("keep", [True, False])
def test_one_at_a_time(tmp_path: Path, keep: bool) -> None:
    file = tmp_path / "lock"
    for _ in range(2):
        with file_lock(file, "out", keep):
            with pytest.raises(OutputError, match="out: another run is writing it"), file_lock(file, "out", keep):
                pass
            assert file.is_file()
        assert file.is_file() is keep


def test_a_file_that_its_holder_removes_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever opened the old one has a lock on a file that nobody else will find."""
    file, same, tries = tmp_path / "lock", Path.stat, []

    def stat(path: Path, **options: bool) -> object:
        if path == file and not tries:
            tries.append(file.unlink())
        return same(path, **options)

    monkeypatch.setattr(Path, "stat", stat)
    with file_lock(file, "out"):
        assert len(tries) == 1
        with pytest.raises(OutputError, match="another run"), file_lock(file, "out"):
            pass


def test_a_folder_stays_held_under_another_name(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    folder.mkdir()
    with folder_lock(folder, "a"):
        folder = folder.rename(tmp_path / "b")
        assert is_locked(folder)
        assert list(folder.iterdir()) == []
    assert not is_locked(folder)


def test_one_lock_for_all_names_of_an_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path / "out")
    found = {output_lock_path(Path(name)) for name in ("out", "./x/../out", "link", str(tmp_path / "out"))}
    assert found == {tmp_path / ".out.lock"}


def test_a_file_system_without_locks_locks_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(descriptor: int, *, blocking: bool) -> bool:
        raise OSError("No locks available")

    monkeypatch.setattr(lock, "lock_descriptor", fail)
    with file_lock(tmp_path / "lock", "out", keep=False), file_lock(tmp_path / "lock", "out"):
        assert not is_locked(tmp_path)
