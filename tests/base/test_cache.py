"""Finished work on disk: what is not what was written is noticed, whoever else reads and writes beside."""

import os
import resource
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from transfuse.alignment.match_store import MatchStore
from transfuse.base.cache import Store
from transfuse.base.distributed import ProcessGroup
from transfuse.base.lock import file_lock
from transfuse.base.run_state import load_state, save_state
from transfuse.errors import OutputError
from transfuse.transport.maps import Permutation
from transfuse.transport.solve import Match

TENSORS = {"a": torch.arange(300.0).reshape(3, 100), "b": torch.ones(7, dtype=torch.int64)}
FACTS = {"cost": 0.25, "name": "é"}
Damage = Callable[[bytes], bytes]
DAMAGE: dict[str, Damage] = {
    "half": lambda data: data[: len(data) // 2],
    "zeroed tail": lambda data: data[:-200] + bytes(200),
    "zeroed": lambda data: bytes(len(data)),
    "empty": lambda data: b"",
    "longer": lambda data: data + b"\0",
    "a bit of a number": lambda data: data[:-100] + bytes([data[-100] ^ 1]) + data[-99:],
    "the facts": lambda data: data.replace(b"0.25", b"0.35"),
    "the name of a tensor": lambda data: data.replace(b'"b"', b'"c"'),
    "the digest": lambda data: data.replace(b'"sha256":"', b'"sha256":"0')[: len(data)],
}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    found = Store(tmp_path / "store").of(what="this")
    found.keep("x/y", TENSORS, FACTS)
    return found


def whole(store: Store) -> bool:
    entry = store.load("x/y")
    if entry is None:
        return False
    assert entry.facts == FACTS
    assert entry.tensors.keys() == TENSORS.keys()
    assert all(torch.equal(entry.tensors[name], values) for name, values in TENSORS.items())
    return True


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_what_is_damaged_is_noticed_and_made_again(damage: Damage, store: Store) -> None:
    assert whole(store)
    path = store.path("x/y")
    assert path is not None
    before = path.read_bytes()
    assert damage(before) != before
    path.write_bytes(damage(before))
    assert store.load("x/y") is None
    store.keep("x/y", TENSORS, FACTS)
    assert whole(store)


def test_every_bit_counts(store: Store) -> None:
    """But of the padding and the names in the header that say nothing."""
    path = store.path("x/y")
    assert path is not None
    data = path.read_bytes()
    for place in range(0, len(data), 37):
        path.write_bytes(data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :])
        assert store.load("x/y") is None or whole(store)


def test_a_file_is_on_the_disk_before_it_takes_its_name(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    sync, replace = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda each: (done.append("sync"), sync(each)))
    monkeypatch.setattr(Path, "replace", lambda self, to: (done.append("name"), replace(self, to)))
    store.keep("z", TENSORS)
    save_state(store.path("z").with_name("state"), {"a": torch.ones(3)})  # type: ignore[union-attr]
    assert done == ["sync", "name"] * 2


def test_a_full_disk_is_said_and_leaves_the_old(store: Store) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(OutputError, match="no space left to keep finished work; free some space, or"):
            store.keep("x/y", {"a": torch.zeros(5000)})
        with pytest.raises(OutputError, match="the state of the run cannot be written"):
            save_state(store.path("state"), {"a": torch.zeros(5000)})  # type: ignore[arg-type]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert whole(store)
    assert [path.name for path in store.folder.iterdir()] == ["x%2Fy.safetensors"]  # type: ignore[union-attr]


def test_two_runs_write_one_entry_while_a_third_reads(store: Store) -> None:
    def write() -> None:
        for _ in range(20):
            store.keep("x/y", TENSORS, FACTS)

    writers = [threading.Thread(target=write) for _ in range(2)]
    for each in writers:
        each.start()
    while any(each.is_alive() for each in writers):
        assert whole(store)
    assert store.names() == ["x/y"]
    assert len(list(store.folder.iterdir())) == 1  # type: ignore[union-attr]


def test_a_state_that_is_damaged_is_none(tmp_path: Path) -> None:
    path = tmp_path / "state"
    save_state(path, {"steps": 3, "map": torch.arange(50.0)})
    assert load_state(path)["steps"] == 3  # type: ignore[index]
    data = path.read_bytes()
    for changed in (data[:-1], data[:-300] + bytes(300), data[:400] + bytes([data[400] ^ 1]) + data[401:], b"", b"x"):
        path.write_bytes(changed)
        assert load_state(path) is None
    assert load_state(tmp_path / "none") is None


def test_a_map_that_goes_while_it_is_needed_is_said(tmp_path: Path) -> None:
    shelf = MatchStore(Store(tmp_path, spill=True))
    shelf["space"] = Match(Permutation(torch.tensor([1, 0])), 0.0)
    assert shelf["space"].map.units == (2, 2)
    for file in tmp_path.iterdir():
        file.unlink()
    with pytest.raises(OutputError, match="removed or damaged during the run"):
        shelf["space"].map.exactness()


def test_what_another_run_holds_is_not_touched(tmp_path: Path) -> None:
    once, again = (file_lock(tmp_path / "mark", "out") for _ in range(2))
    with once, pytest.raises(OutputError, match="out: another run is writing it"), again:
        pass
    with file_lock(tmp_path / "mark", "out"):
        pass


# Several processes, as threads that meet


@dataclass(frozen=True)
class Thread(ProcessGroup):
    """One of several threads that stand for processes."""

    board: Any = None

    def all_gather(self, found: Any) -> list[Any]:
        slots, barrier = self.board
        slots[self.rank] = found
        barrier.wait(10)
        every = list(slots)
        barrier.wait(10)
        return every


@pytest.fixture
def together(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[Callable[[], Any]]], list[Any]]:
    own = threading.local()
    for module in ("base.cache", "base.run_state", "alignment.match_store"):
        monkeypatch.setattr(f"transfuse.{module}.process_group", lambda: getattr(own, "group", ProcessGroup()))

    def call(jobs: list[Callable[[], Any]]) -> list[Any]:
        board, found = ([None] * len(jobs), threading.Barrier(len(jobs))), [None] * len(jobs)

        def work(rank: int, job: Callable[[], Any]) -> None:
            own.group = Thread(rank, len(jobs), board=board)
            found[rank] = job()

        threads = [threading.Thread(target=work, args=each) for each in enumerate(jobs)]
        for each in threads:
            each.start()
        for each in threads:
            each.join(30)
        return found

    return call


def test_processes_agree_on_what_is_finished(together: Callable[..., list[Any]], tmp_path: Path) -> None:
    """One that sees nothing, or something else, as another run fills the cache: then none has it."""
    one, other = Store(tmp_path / "one"), Store(tmp_path / "other")
    one.keep("x", TENSORS, FACTS)
    save_state(tmp_path / "state", {"a": 1})
    assert together([lambda: one.load("x"), lambda: other.load("x")]) == [None, None]
    other.keep("x", TENSORS, FACTS | {"cost": 1})
    assert together([lambda: one.load("x"), lambda: other.load("x")]) == [None, None]
    assert None not in together([lambda: one.load("x"), lambda: one.load("x")])
    assert together([lambda: load_state(tmp_path / "state"), lambda: load_state(tmp_path / "none")]) == [None, None]
    assert together([lambda: load_state(tmp_path / "state")] * 2) == [{"a": 1}] * 2


def test_processes_take_the_first_ones_list_of_maps(together: Callable[..., list[Any]], tmp_path: Path) -> None:
    one, other = Store(tmp_path / "one"), Store(tmp_path / "other")
    for store, names in ((one, "ab"), (other, "bc")):
        shelf = MatchStore(store)
        for name in names:
            shelf[name] = Match(Permutation(torch.tensor([1, 0])), 0.0)
    found = together([lambda: list(MatchStore(one)), lambda: list(MatchStore(other))])
    assert found[0] == found[1]
