"""`transfuse eval --lm-eval`: tasks of the Language Model Evaluation Harness, here one that lies on the disk."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from languages import gpt2, saved
from transformers import GPT2LMHeadModel, PreTrainedTokenizerFast
from world import Run, World, one_line

ROWS = [("number 3 follows", [" number 2", "zz"]), ("number 1", [" xyz xyz", " follows"]), ("zz", ["number", "0"])]


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    """A folder with one task: to choose the likelier of two endings."""
    pytest.importorskip("lm_eval", reason="needs the extra `eval`")
    folder = tmp_path / "tasks"
    folder.mkdir()
    rows = [{"context": context, "choices": choices, "label": 0} for context, choices in ROWS]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = {
        "task": "endings", "dataset_path": "json", "output_type": "multiple_choice", "test_split": "test",
        "dataset_kwargs": {"data_files": {"test": str(folder / "rows.jsonl")}}, "doc_to_text": "{{context}}",
        "doc_to_choice": "{{choices}}", "doc_to_target": "label", "target_delimiter": "",
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    }  # fmt: skip
    (folder / "endings.yaml").write_text(yaml.safe_dump(task))
    return folder


def likelier(folder: Path, context: str, ending: str) -> float:
    """The log-probability of an ending, by hand."""
    tokenizer, model = PreTrainedTokenizerFast.from_pretrained(folder), GPT2LMHeadModel.from_pretrained(folder)
    before, whole = (tokenizer(text)["input_ids"] for text in (context, context + ending))
    said = model(torch.tensor([whole])).logits[0].detach().log_softmax(-1)
    return sum(float(said[place - 1, whole[place]]) for place in range(len(before), len(whole)))


@pytest.mark.slow
def test_accuracy_is_that_of_the_likelier_ending(tmp_path: Path, tasks: Path, run: Run) -> None:
    a = saved(tmp_path / "a", gpt2, 1)
    ran = run("eval", a, "--lm-eval", "endings", "--lm-eval-tasks", tasks, "--json")
    assert (ran.status, ran.err) == (0, "")
    right = [likelier(a, context, first) > likelier(a, context, second) for context, (first, second) in ROWS]
    found = json.loads(ran.out)[str(a)]["endings"]
    assert found["acc"] == pytest.approx(sum(right) / len(right))
    assert "acc_stderr" in found
    shown = run("eval", a, "--lm-eval", "endings", "--lm-eval-tasks", tasks)
    assert (shown.status, shown.err) == (0, "")
    assert all(word in shown.out for word in ("endings", "acc", f"{found['acc']:.4f} ±"))


@pytest.mark.slow
def test_unknown_tasks_and_models_that_do_not_continue(tmp_path: Path, tasks: Path, world: World, run: Run) -> None:
    a = saved(tmp_path / "a", gpt2, 1)
    one_line(run("eval", a, "--lm-eval", "ending", "--lm-eval-tasks", tasks), ["ending", "did you mean endings"])
    one_line(run("eval", world.a, "--lm-eval", "endings", "--lm-eval-tasks", tasks), ["does not continue texts"])


@pytest.mark.slow
def test_a_task_that_breaks(tmp_path: Path, tasks: Path, run: Run) -> None:
    described = yaml.safe_load((tasks / "endings.yaml").read_text())
    (tasks / "endings.yaml").write_text(yaml.safe_dump(described | {"doc_to_text": "{{nothing.of.this}}"}))
    ran = run("eval", saved(tmp_path / "a", gpt2, 1), "--lm-eval", "endings", "--lm-eval-tasks", tasks)
    one_line(ran, ["endings", "UndefinedError", "check the task"])


def test_what_to_measure_on_has_to_be_said(world: World, run: Run) -> None:
    one_line(run("eval", world.a), ["--data", "--lm-eval"])
    one_line(run("eval", world.a, "--data", world.images, "--lm-eval", "x"), ["--lm-eval", "--data"])
    one_line(run("eval", world.a, "--lm-eval", "x", "--classes"), ["--classes"])
    one_line(run("eval", world.a, "--lm-eval", "x,,y"), ["--lm-eval", "'x,,y'"])
    one_line(run("eval", world.a, "--lm-eval", "x", "--lm-eval-tasks", world.here / "no"), ["--lm-eval-tasks", "no"])
    one_line(run("eval", world.a, "--data", world.images, "--lm-eval-tasks", world.here), ["--lm-eval-tasks"])
