"""The task by which a model is measured and trained on labels, which depends on its configuration too."""

from dataclasses import replace

from transformers import PreTrainedConfig

from transfuse.data.labels.numeric_labels import (
    indicators_of,
    labeled_preparer,
    numbers_of,
    with_label_sets,
    with_numbers,
)
from transfuse.data.tasks import (
    CAUSAL_LM,
    IMAGE_CLASSIFICATION,
    MEASURED_CAUSAL_LM,
    QUESTION_ANSWERING,
    SEQUENCE_TO_SEQUENCE,
    TEXT_CLASSIFICATION,
    TOKEN_CLASSIFICATION,
    Task,
    check_causal,
    task,
)
from transfuse.data.text.questions import window_preparer
from transfuse.data.text.sequences import check_has_encoder
from transfuse.data.text.tagged_words import with_tags
from transfuse.errors import SpecError
from transfuse.network.output_losses import problem_type

UNTRAINABLE = ("outputs", "pairs")  # kinds whose outputs have no labels


def measured_task(architecture: str, config: PreTrainedConfig) -> Task:
    """Return the task by which a model is measured.

    Contexts that are too long are read in windows, and the bytes of texts are counted.
    """
    found = labeled_task(architecture, config)
    if found is CAUSAL_LM:
        return MEASURED_CAUSAL_LM
    return replace(found, preparer=window_preparer) if found is QUESTION_ANSWERING else found


def labeled_task(architecture: str, config: PreTrainedConfig) -> Task:
    """Return the task by which a model is trained on labels: its class tells no classifier from a regression."""
    found = task(architecture)
    if found is TOKEN_CLASSIFICATION:
        return replace(found, labeled=lambda samples: with_tags(samples, config))
    if found not in (IMAGE_CLASSIFICATION, TEXT_CLASSIFICATION):
        return found
    problem = problem_type(config)
    if problem == "multi_label_classification":
        return replace(
            found,
            labeled=lambda samples: with_label_sets(found.samples(samples), config),
            preparer=labeled_preparer(found.preparer, indicators_of),
            measures=("micro_f1", "macro_f1", "accuracy", "loss"),
            kind="label_sets",
        )
    if problem == "regression":
        return replace(
            found,
            labeled=lambda samples: with_numbers(found.samples(samples)),
            preparer=labeled_preparer(found.preparer, numbers_of),
            measures=("pearson", "spearman", "squared_error"),
            kind="numbers",
        )
    return found


def check_trainable(config: PreTrainedConfig, architecture: str) -> None:
    """Check that a model can be fine-tuned: it predicts something that labels can state.

    Raises:
        SpecError: it has no head, compares images and texts, answers sources without an encoder, or sees the tokens
            that it predicts.
    """
    found = task(architecture)
    if found.kind in UNTRAINABLE:
        raise SpecError(f"{architecture}: cannot be fine-tuned; give a model with a head that labels can train")
    if found is SEQUENCE_TO_SEQUENCE:
        check_has_encoder(config)
    if found is CAUSAL_LM:
        check_causal(config)
