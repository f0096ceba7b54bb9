"""`transfuse finetune` as a user runs it: a checkpoint in one piece, a line for every mistake, several processes."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from cli_inputs import Ran, Run, World, one_line
from transformers import Trainer, ViTForImageClassification

from transfuse.base.lock import folder_lock, output_lock
from transfuse.cli.targets import training_target
from transfuse.errors import ConfigError
from transfuse.finetuning.checks import check_same_run, start_run
from transfuse.finetuning.result import Finetuned

Arguments = Callable[[World], Sequence[object]]
QUICK = ("--epochs", "2", "--batch-size", "4", "--device", "cpu")


def tuning(*more: object) -> Arguments:
    return lambda w: ["finetune", w.a, "--data", w.images, "-o", w.here / "out", *QUICK, *more]


def test_a_checkpoint_with_its_origin_and_no_trace_of_the_run(world: World, run: Run) -> None:
    ran = run(*tuning("--teacher", world.b, "--augment", "crop-flip", "--json")(world))
    assert ran.status == 0, ran
    document = json.loads(ran.out)
    assert document["steps"] == 6
    assert [teacher["path"] for teacher in document["teachers"]] == [str(world.b)]
    assert [path.name for path in world.here.iterdir()] == ["out"]
    _, report = ViTForImageClassification.from_pretrained(world.here / "out", output_loading_info=True)
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert run("eval", world.here / "out", world.a, "--data", world.images).status == 0


def test_it_says_what_it_did(world: World, run: Run) -> None:
    ran = run(*tuning()(world))
    assert ran.status == 0, ran
    assert "6 steps on 12 samples" in ran.out
    one_line(run(*tuning()(world)), ["out", "--overwrite"])
    assert run(*tuning("--overwrite", "-q")(world)).out == ""


def test_an_output_in_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert training_target(("a",), "~/out", resume=False, replace=False).output == tmp_path / "out"


def test_a_fusion_can_be_tuned(world: World, run: Run) -> None:
    assert run("fuse", world.a, world.b, "-o", world.here / "fused").status == 0
    ran = run("finetune", world.here / "fused", "--data", world.images, "-o", world.here / "out", *QUICK)
    assert ran.status == 0, ran


def interrupted(world: World, run: Run, monkeypatch: pytest.MonkeyPatch, *more: object) -> Ran:
    """Run until the first state is saved."""
    save = Trainer._save_checkpoint

    def interrupt(*arguments: object, **options: object) -> None:
        save(*arguments, **options)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_save_checkpoint", interrupt)
        return run(*tuning(*more)(world))


def saved_state(world: World, step: int) -> Path:
    """A complete checkpoint of the Trainer, as far as its files tell."""
    state = world.here / "out.checkpoints" / f"checkpoint-{step}"
    shutil.copytree(world.a, state)
    for name in ("optimizer.pt", "scheduler.pt"):
        torch.save({}, state / name)
    (state / "trainer_state.json").write_text("{}")
    return state


@pytest.mark.parametrize("missing", ["trainer_state.json", "optimizer.pt", "scheduler.pt", "model.safetensors"])
def test_a_state_that_was_not_written_to_its_end_is_passed_over(missing: str, world: World) -> None:
    older, newer = saved_state(world, 3), saved_state(world, 12)
    (newer / missing).unlink()
    assert training_target(("a",), str(world.here / "out"), resume=True, replace=False).resume == str(older)
    (newer / missing).write_text('{"cut off')
    if missing == "trainer_state.json":
        assert training_target(("a",), str(world.here / "out"), resume=True, replace=False).resume == str(older)


def test_a_run_that_saved_nothing_whole_is_repeated(world: World, run: Run) -> None:
    (saved_state(world, 12) / "trainer_state.json").unlink()
    one_line(run(*tuning("--resume")(world)), ["--resume", "no complete state", "leave --resume out"])
    assert run(*tuning()(world)).status == 0
    assert [path.name for path in world.here.iterdir()] == ["out"]


@pytest.mark.parametrize("name", ["optimizer.pt", "rng_state.pth", "model.safetensors"])
def test_a_damaged_state_is_one_line(name: str, world: World, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted(world, run, monkeypatch)
    (file,) = (world.here / "out.checkpoints").glob(f"checkpoint-*/{name}")
    file.write_bytes(file.read_bytes()[:-100])

    one_line(run(*tuning("--resume")(world)), [name])


def test_the_state_of_a_run_is_found_again(world: World, run: Run) -> None:
    one_line(run(*tuning("--resume")(world)), ["--resume", "no complete state"])
    saved_state(world, 3)
    one_line(run(*tuning()(world)), ["out.checkpoints", "--resume"])
    one_line(run(*tuning("--resume")(world)), ["out.checkpoints", "no run.json"])


def test_an_interrupted_run_says_how_to_continue(world: World, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = interrupted(world, run, monkeypatch)
    state = world.here / "out.checkpoints"
    assert ran.status == 130
    assert ran.err == f"transfuse: interrupted; the same command with --resume continues from {state}\n"
    assert not (world.here / "out").exists()
    assert run(*tuning("--resume")(world)).status == 0
    assert [path.name for path in world.here.iterdir()] == ["out"]


def test_an_interruption_once_the_model_is_written_says_so(
    world: World, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = Finetuned.save

    def interrupt(*arguments: object) -> None:
        save(*arguments)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    monkeypatch.setattr(Finetuned, "save", interrupt)
    ran = run(*tuning()(world))
    assert ran.err.endswith(f"transfuse: interrupted; {world.here / 'out'} is complete\n"), ran
    assert [path.name for path in world.here.iterdir()] == ["out"]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), MemoryError()])
def test_the_model_is_there_where_measuring_it_failed(
    error: BaseException, world: World, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*given: object, **options: object) -> None:
        raise error

    monkeypatch.setattr("transfuse.cli.jobs.quality.evaluate_models", fails)
    ran = run(*tuning("--json")(world))
    out = world.here / "out"
    if isinstance(error, MemoryError):
        assert ran.status == 0, ran
        verdict = json.loads(ran.out)["quality"]["verdict"]
        assert verdict.startswith("Not measured: memory did not suffice. Measure it with: transfuse eval")
    else:
        assert ran.status == 130
        assert ran.err == f"transfuse: interrupted; {out}: the model was written, but not its measurements\n"
    assert [path.name for path in world.here.iterdir()] == ["out"]
    ViTForImageClassification.from_pretrained(out)


def test_a_run_that_diverged_can_be_repeated(world: World, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    rate = ("--learning-rate", "1e30")
    one_line(run(*tuning(*rate)(world)), ["--learning-rate: with 1e+30", "NaN", "lower rate"])
    assert not any(world.here.iterdir())
    interrupted(world, run, monkeypatch, *rate)
    one_line(run(*tuning(*rate, "--resume")(world)), ["--learning-rate: with 1e+30", "NaN", "lower rate"])
    assert run(*tuning()(world)).status == 0
    assert [path.name for path in world.here.iterdir()] == ["out"]


def test_two_runs_do_not_share_a_state(world: World, run: Run) -> None:
    with output_lock(world.here / "out"):
        one_line(run(*tuning()(world)), ["out", "another run is writing it"])
        assert not (world.here / "out.checkpoints").exists()
    state = world.here / "out.checkpoints"
    state.mkdir()
    with folder_lock(state, "out.checkpoints"):
        one_line(run(*tuning()(world)), ["out.checkpoints", "another run is writing it"])


def test_the_note_of_another_run_stays(tmp_path: Path) -> None:
    start_run(tmp_path, {"seed": 1})
    start_run(tmp_path, {"seed": 2})  # as it left no state
    (tmp_path / "checkpoint-3").mkdir()
    with pytest.raises(ConfigError, match="holds the state of another run"):
        start_run(tmp_path, {"seed": 1})
    assert json.loads((tmp_path / "run.json").read_text()) == {"seed": 2}
    with pytest.raises(ConfigError, match="differs in: seed"):
        check_same_run(tmp_path / "checkpoint-3", {"seed": 1})
    (tmp_path / "run.json").write_text('{"se')
    with pytest.raises(ConfigError, match=r"checkpoint-3: no run.json beside it says what was trained"):
        check_same_run(tmp_path / "checkpoint-3", {"seed": 2})


def test_an_output_in_a_folder_that_is_not_there(world: World, run: Run) -> None:
    given = ["finetune", world.a, "--data", world.images, "-o", world.here / "deep" / "er" / "out", *QUICK, "-q"]
    assert run(*given).status == 0
    assert [path.name for path in (world.here / "deep" / "er").iterdir()] == ["out"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (lambda w: ["finetune", w.a, "--data", w.images], ["-o"]),
        (tuning("--epochs", "0"), ["--epochs", "greater than 0"]),
        (tuning("--decay", "cosin"), ["--decay", "did you mean cosine?"]),
        (tuning("--augment", "crop_flip"), ["--augment", "crop-flip"]),
        (tuning("--distill", "0.5"), ["--distill", "no teacher"]),
        (tuning("--distill", "0"), ["--distill", "with 0, teachers have no effect"]),
        (
            lambda w: [*tuning("--teacher", w.b, "--teacher-weighting", "confidence")(w)],
            ["--teacher-weighting", "one teacher"],
        ),
        (tuning("--device", "cuda:1"), ["--device", "CUDA_VISIBLE_DEVICES"]),
        (lambda w: [*tuning("--teacher", w.many)(w)], ["many", "num_labels"]),
        (lambda w: [*tuning("--teacher", w.foreign)(w)], ["foreign", "cannot teach"]),
        (lambda w: [*tuning("--teacher", "/no/model")(w)], ["/no/model"]),
        (lambda w: ["finetune", w.a, "--data", w.bare, "-o", w.here / "out"], ["label"]),
        (lambda w: ["finetune", w.a, "--data", w.words, "-o", w.here / "out"], ["image"]),
        (lambda w: ["finetune", w.a, "--data", w.images, "-o", w.a], ["must stay"]),
    ],
)
def test_mistakes_leave_nothing(arguments: Arguments, words: Sequence[str], world: World, run: Run) -> None:
    one_line(run(*arguments(world)), words)
    assert world.listing() == {}


def test_teachers_alone_need_no_labels(world: World, run: Run) -> None:
    ran = run("finetune", world.a, "--data", world.bare, "--teacher", world.b, "--distill", "1",
              "-o", world.here / "out", *QUICK)  # fmt: skip
    assert ran.status == 0, ran


@pytest.mark.slow
def test_two_processes_share_the_work(world: World) -> None:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "-m", "transfuse"]
    ran = subprocess.run([*launcher, *map(str, tuning("--json")(world))], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["steps"] == 4  # of 12 samples, 4 a step in each process, twice
    ViTForImageClassification.from_pretrained(world.here / "out")
