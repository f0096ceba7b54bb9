"""Models that are fetched from the Hub: what is asked for, and the message if it refuses."""

import shutil
from pathlib import Path

import pytest
from checkpoints import as_pickle, refuses, same_weights
from hub_answers import refused
from huggingface_hub.errors import GatedRepoError, LocalEntryNotFoundError, RepositoryNotFoundError

from transfuse.checkpoint.reading.load import load_model, local_directory
from transfuse.checkpoint.writing.push import LOGIN


@pytest.mark.parametrize("name", ["/no/such/place", "../nowhere", "owner/no-such-model", "nowhere", "a b"])
def test_a_path_that_is_not_there(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    refuses(name, name, "no such directory", "Hub could not be reached or has no such model")


def test_a_name_on_the_hub_is_found_in_its_cache(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    repo = tmp_path / "models--owner--name"
    shutil.copytree(saved, repo / "snapshots" / ("0" * 40))
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text("0" * 40)
    monkeypatch.chdir(tmp_path)
    assert local_directory("owner/name") == repo / "snapshots" / ("0" * 40)
    assert same_weights(load_model("owner/name"), saved)


def test_pickles_are_fetched_only_where_they_are_needed(vit: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []

    def fetch(name: str, revision: str | None, allow_patterns: list[str]) -> str:
        asked.append(any("pytorch_model" in pattern for pattern in allow_patterns))
        return str(vit)

    monkeypatch.setattr("transfuse.checkpoint.reading.load.snapshot_download", fetch)
    assert local_directory("owner/name", "allow") == vit
    assert asked == [False]
    as_pickle(vit)
    assert local_directory("owner/name") == vit
    assert asked == [False] * 2
    assert local_directory("owner/name", "allow") == vit
    assert asked == [False] * 3 + [True]


ACCESS = {
    "gated": (refused(403, GatedRepoError), ["accept its terms", LOGIN]),
    "private or missing": (refused(401, RepositoryNotFoundError), ["no such public model", "check the path", LOGIN]),
    "wrong token": (refused(401), ["refuses access (no such thing)", LOGIN]),
    "no network": (OSError("Name or service not known"), ["(Name or service not known)", "check the path"]),
}


@pytest.mark.parametrize("how", ACCESS)
@pytest.mark.parametrize("wrapped", [False, True])
def test_a_hub_that_refuses(how: str, wrapped: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library reports some causes in an error of its own, which says that the local copy is missing."""
    error, words = ACCESS[how]

    def fetch(*arguments: object, **options: object) -> None:
        if wrapped:
            raise LocalEntryNotFoundError("no local copy") from error
        raise error

    monkeypatch.setattr("transfuse.checkpoint.reading.load.snapshot_download", fetch)
    refuses("owner/name", "owner/name: ", *words)
