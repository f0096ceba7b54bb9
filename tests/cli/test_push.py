"""`transfuse fuse --push-to-hub`, and what the cards of the parents change. The Hub is out of reach."""

import json

import pytest
from cli_inputs import Run, World, one_line

from transfuse.checkpoint.writing import push


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Logged in, without a network."""
    monkeypatch.setattr(push, "get_token", lambda: "hf_mine")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def test_without_a_network_the_output_stays(world: World, run: Run, offline: None) -> None:
    out = world.here / "out"
    words = ["me/out: not written to the Hub", "HF_HUB_OFFLINE", str(out), "hf upload me/out"]
    one_line(run("fuse", world.a, world.b, "-o", out, "--push-to-hub", "me/out"), words)
    assert (out / "model.safetensors").is_file()


def test_an_interrupted_upload_says_where_the_model_is(
    world: World, run: Run, offline: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is nothing to continue, because the model is complete."""

    def interrupted(*_: object, **__: object) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr("transfuse.cli.jobs.fuse.push_folder", interrupted)
    out = world.here / "out"
    ran = run("fuse", world.a, world.b, "-o", out, "--data", world.bare, "--push-to-hub", "me/out")
    assert ran.status == 130
    assert f"interrupted; the model is in {out}, and `hf upload me/out {out}` writes it later" in ran.err
    assert "--resume" not in ran.err
    assert {path.name for path in world.here.iterdir()} == {"out"}


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--push-to-hub", "a b"], ["--push-to-hub", "'a b'", "user/name"]),
        (["--push-to-hub", "me/out"], ["--push-to-hub", "not logged in", "hf auth login"]),
        (["--base", "me/a@v1", "--merge", "ties", "--push-to-hub", "me/a"], ["--push-to-hub: me/a", "their base"]),
        (["--private"], ["--private", "push_to_hub"]),
    ],
    ids=str,
)
def test_mistakes_come_before_the_work(
    flags: list[str], words: list[str], world: World, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(push, "get_token", lambda: None)
    one_line(run("fuse", world.a, world.b, "-o", world.here / "out", *flags), words)
    assert world.listing() == {}


def test_the_address_is_told(world: World, run: Run, offline: None, monkeypatch: pytest.MonkeyPatch) -> None:
    pushed = []

    def upload(folder: object, repo_id: str, private: bool | None) -> str:
        pushed.append((folder, repo_id, private))
        return f"https://huggingface.co/{repo_id}"

    monkeypatch.setattr("transfuse.cli.jobs.fuse.push_folder", upload)
    out = world.here / "out"
    ran = run("fuse", world.a, world.b, "-o", out, "--push-to-hub", "me/out", "--private")
    assert ran.out.endswith("On the Hub: https://huggingface.co/me/out\n")
    ran = run("fuse", world.a, world.b, "-o", out, "--push-to-hub", "me/out", "--overwrite", "--json")
    assert json.loads(ran.out)["hub"] == "https://huggingface.co/me/out"
    assert pushed == [(out, "me/out", True), (out, "me/out", None)]


def test_licenses_that_differ_are_told(world: World, run: Run) -> None:
    other = world.damaged(lambda copy: (copy / "README.md").write_text("---\nlicense: mit\n---\n"))
    third = world.here / "third"
    other.rename(third)
    anchor = world.damaged(lambda copy: (copy / "README.md").write_text("---\nlicense: gpl-3.0\nlanguage: de\n---\n"))
    ran = run("fuse", anchor, third, "-o", world.here / "out", "--align", "none")
    assert ran.status == 0
    assert f"licenses differ ({anchor}: gpl-3.0, {third}: mit)" in ran.err
    assert ran.err.count("\n") == 1
    card = (world.here / "out" / "README.md").read_text()
    assert "license: gpl-3.0\nlanguage:\n- de\n" in card
    based = run("fuse", anchor, "--base", third, "--merge", "task-arithmetic", "-o", world.here / "based")
    assert f"licenses differ ({anchor}: gpl-3.0, {third}: mit)" in based.err
    assert run("finetune", anchor, "--data", world.images, "-o", world.here / "tuned").status == 0
    assert "license: gpl-3.0\n" in (world.here / "tuned" / "README.md").read_text()
