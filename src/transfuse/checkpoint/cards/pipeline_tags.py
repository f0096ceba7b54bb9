"""The task of a model, in the Hub's words."""

from transformers.modelcard import TASK_MAPPING

RETIRED = ("text2text-generation",)  # tasks that the Hub no longer has


def pipeline_tag(architecture: str) -> str | None:
    """Return the task of a transformers class, such as image-classification; None if it has no task of its own."""
    for task, names in TASK_MAPPING.items():
        classes = [name for value in names.values() for name in ((value,) if isinstance(value, str) else value)]
        if architecture in classes and task not in RETIRED:
            return str(task)
    return None
