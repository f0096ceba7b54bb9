"""Language models on the tasks of the Language Model Evaluation Harness (EleutherAI's `lm-eval`)."""

import os
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr
from difflib import get_close_matches
from numbers import Real
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from transfuse.errors import ConfigError, DataError, first_line

Scores = Mapping[str, Mapping[str, float]]
"""Of each task, each metric; `acc_stderr` is the standard error of `acc`."""


def load_tasks(names: Sequence[str], folder: Path | None = None) -> Any:
    """What knows the tasks.

    Args:
        folder: with tasks of one's own, as the harness describes them (YAML).

    Raises:
        ConfigError: the harness is not installed, or knows no such task.
    """
    try:
        from lm_eval.tasks import TaskManager
    except ImportError as error:
        raise ConfigError("--lm-eval: the harness is not installed; pip install 'transfuse[eval]'") from error
    manager = TaskManager(include_path=None if folder is None else str(folder))
    for name in names:
        if not manager.match_tasks([name]):
            near = get_close_matches(name, manager.all_tasks, n=1)
            raise ConfigError(f"--lm-eval: no task is called {name}" + (f"; did you mean {near[0]}?" if near else ""))
    return manager


def scores(
    model: PreTrainedModel, tokenizer: Any, names: Sequence[str], manager: Any, limit: int | None, batch_size: int
) -> Scores:
    """What one model reaches. Raises `DataError` where the samples of a task cannot be had."""
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM

    try:
        with open(os.devnull, "w") as nowhere, redirect_stderr(nowhere):  # where its bars go
            found = simple_evaluate(
                HFLM(pretrained=model, tokenizer=tokenizer, batch_size=batch_size),
                tasks=list(names),
                task_manager=manager,
                limit=limit,
                log_samples=False,
                bootstrap_iters=1000,
            )
    except Exception as error:  # a task is a program of its own: whatever is wrong with it
        reason = f"{type(error).__name__}: {first_line(error)}"
        raise DataError(f"--lm-eval {','.join(names)}: the harness cannot run it ({reason}); check the task") from error
    return {task: _numbers(each) for task, each in found["results"].items()} if found else {}


def _numbers(found: Mapping[str, Any]) -> dict[str, float]:
    """Metrics by their names, without the harness's name of the filter that most have not."""
    return {
        _plain(name): float(value) for name, value in found.items() if isinstance(value, Real) and name != "sample_len"
    }


def _plain(name: str) -> str:
    """`acc,none` as acc; `acc_stderr,strict` as acc,strict_stderr, beside acc,strict."""
    metric, _, kept = name.partition(",")
    error = "_stderr" if metric.endswith("_stderr") else ""
    return metric.removesuffix("_stderr") + (f",{kept}" if kept not in ("", "none") else "") + error
