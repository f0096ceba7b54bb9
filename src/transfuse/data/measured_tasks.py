"""The task by which a model is measured, which depends on its configuration too, and whether it can be fine-tuned."""

from dataclasses import replace

from transformers import PreTrainedConfig

from transfuse.base.counted import counted
from transfuse.data.numeric_labels import indicators_of, labeled_preparer, numbers_of, with_label_sets, with_numbers
from transfuse.data.tasks import (
    CAUSAL_LM,
    IMAGE_CLASSIFICATION,
    MASKED_LM,
    MEASURED_CAUSAL_LM,
    TEXT_CLASSIFICATION,
    Task,
    task,
)
from transfuse.errors import SpecError

TRAINABLE = (IMAGE_CLASSIFICATION, TEXT_CLASSIFICATION, MASKED_LM, CAUSAL_LM, MEASURED_CAUSAL_LM)


def measured_task(architecture: str, config: PreTrainedConfig) -> Task:
    """Return the task by which a model is measured: its class tells no classifier from a regression."""
    found = task(architecture)
    if found is CAUSAL_LM:
        return MEASURED_CAUSAL_LM
    if found not in (IMAGE_CLASSIFICATION, TEXT_CLASSIFICATION):
        return found
    problem = getattr(config, "problem_type", None)
    if problem == "multi_label_classification":
        return replace(
            found,
            labeled=lambda samples: with_label_sets(found.samples(samples)),
            preparer=labeled_preparer(found.preparer, indicators_of),
            measures=("micro_f1", "macro_f1", "accuracy", "loss"),
            kind="label_sets",
        )
    if problem == "regression" or config.num_labels == 1:
        return replace(
            found,
            labeled=lambda samples: with_numbers(found.samples(samples)),
            preparer=labeled_preparer(found.preparer, numbers_of),
            measures=("pearson", "spearman", "squared_error"),
            kind="numbers",
        )
    return found


def check_trainable(config: PreTrainedConfig, architecture: str) -> None:
    """Check that a model can be fine-tuned: it predicts one class of several, or tokens.

    Raises:
        SpecError: it has no head, or one for another task.
    """
    if measured_task(architecture, config) in TRAINABLE:
        return
    what = architecture
    if task(architecture) in TRAINABLE:  # a classifier's class, with another problem
        what += f" with {counted(config.num_labels, 'label')} ({getattr(config, 'problem_type', None) or 'regression'})"
    raise SpecError(f"{what}: cannot be fine-tuned; give a model that predicts one class of several, or tokens")
