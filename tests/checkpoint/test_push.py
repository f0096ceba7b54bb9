"""Writing to the Hub: what is uploaded, and the message if it fails. A fake of its client stands for the Hub."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cli_inputs import vit
from hub_answers import refused
from huggingface_hub.errors import LocalTokenNotFoundError, OfflineModeIsEnabled

import transfuse
from transfuse.checkpoint.writing import push
from transfuse.errors import ConfigError, OutputError


class Address(str):
    """An address, as `create_repo` returns it."""

    repo_id: str


class Hub:
    """A client of the Hub that keeps what it is given, or fails."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.created: list[tuple[str, bool | None]] = []
        self.files: dict[str, bytes] = {}
        self.token: str | None = None
        self.message = ""

    def __call__(self, token: str | None, **_: Any) -> "Hub":
        self.token = token
        return self

    def create_repo(self, repo_id: str, private: bool | None, exist_ok: bool) -> Address:
        if self.error:
            raise self.error
        assert exist_ok
        self.created.append((repo_id, private))
        address = Address(f"https://huggingface.co/{repo_id}")
        address.repo_id = repo_id
        return address

    def upload_folder(self, repo_id: str, folder_path: Path, commit_message: str) -> None:
        self.message = commit_message
        self.files = {path.name: path.read_bytes() for path in Path(folder_path).iterdir()}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Hub:
    fake = Hub()
    monkeypatch.setattr(push, "HfApi", fake)
    monkeypatch.setattr(push, "get_token", lambda: "hf_saved")
    return fake


def test_a_fusion_is_uploaded_whole(hub: Hub, tmp_path: Path) -> None:
    fusion = transfuse.fuse([vit(tmp_path / "a", 1), vit(tmp_path / "b", 2)])
    address = fusion.push_to_hub("me/fused", private=True, token="hf_mine", commit_message="first")
    assert address == "https://huggingface.co/me/fused"
    assert (hub.created, hub.token, hub.message) == ([("me/fused", True)], "hf_mine", "first")
    assert {"config.json", "model.safetensors", "README.md", "transfuse.json"} <= hub.files.keys()
    assert b"# fused\n" in hub.files["README.md"]
    assert b"-o fused" in hub.files["README.md"]
    assert "/tmp" not in hub.files["README.md"].decode().replace(str(tmp_path), "")


def test_the_base_is_not_overwritten(hub: Hub, tmp_path: Path) -> None:
    fusion = transfuse.fuse([vit(tmp_path / "a", 1), vit(tmp_path / "b", 2)], align="none")
    fusion = replace(fusion, record=fusion.record | {"base": {"path": "org/base@v1"}})
    with pytest.raises(ConfigError, match="org/base is one of the fused models, or their base"):
        fusion.push_to_hub("org/base")
    assert hub.created == []


def test_what_is_wrong_is_said_before_anything_is_written(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a b", "", "a/b/c", "me/..", "/home/me/out"):
        with pytest.raises(ConfigError, match="not the name of a repository"):
            push.check_push(name)
    with pytest.raises(ConfigError, match="org/a is one of the fused models"):
        push.check_push("org/a", ["org/a", "org/b"])
    with pytest.raises(ConfigError, match="org/a is one of the fused models"):
        push.check_push("org/a", ["org/a@v1"])
    push.check_push("me/out", ["org/a"])
    monkeypatch.setattr(push, "get_token", lambda: None)
    with pytest.raises(ConfigError, match="not logged in to the Hub; log in with `hf auth login`"):
        push.check_push("me/out")
    push.check_push("me/out", token="hf_mine")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (refused(401), "not logged in"),
        (LocalTokenNotFoundError("no token"), "not logged in"),
        (refused(403), "may not write there"),
        (refused(400), "refused (no such thing)"),
        (OfflineModeIsEnabled("offline"), "unset HF_HUB_OFFLINE"),
        (ConnectionError("[Errno -2] Name or service not known"), "could not be reached ([Errno -2]"),
        (TimeoutError(), "could not be reached (TimeoutError)"),
    ],
    ids=str,
)
def test_failures_are_one_line(error: Exception, said: str, hub: Hub, tmp_path: Path) -> None:
    hub.error = error
    with pytest.raises(OutputError) as caught:
        push.push_folder(tmp_path, "me/out")
    assert str(caught.value).startswith("me/out: not written to the Hub: ")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
