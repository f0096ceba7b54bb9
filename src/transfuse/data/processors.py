"""What prepares the samples of a model: the processor that a user gives, or the one that is saved with the model."""

from pathlib import Path
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from transfuse.checkpoint.reading.companions import MODULES
from transfuse.checkpoint.reading.load import local_directory, unmerged_directory
from transfuse.data.image.image_texts import ImageTextProcessor
from transfuse.data.samples import Prepare
from transfuse.data.tasks import TEXT_CLASSIFICATION, Task, task
from transfuse.data.text.pooling import with_pooled_token
from transfuse.errors import ConfigError


def model_processor(source: Any, model: PreTrainedModel, processor: Any = None) -> Any:
    """Return `processor` (an image processor or a tokenizer), or the one saved with the checkpoint if it is None.

    Args:
        processor: a processor, or the path of a checkpoint that has one.
        source: the model as it was passed by the user: a path, a name on the Hub, or the loaded model.
        model: the loaded model.

    Raises:
        ConfigError: `source` is a loaded model, which has no processor, and `processor` is None; or `processor` is
            something else.
    """
    model_task = task(type(model).__name__)
    processor = loaded_processor(processor, model)
    if processor is None and isinstance(source, PreTrainedModel):
        raise ConfigError(
            f"data: a loaded model has no {model_task.processor}; pass processor=..., or the model's path"
        )
    return model_task.load(local_directory(source, "allow")) if processor is None else processor


def loaded_processor(processor: Any, model: PreTrainedModel) -> Any:
    """Return a processor: as it was passed, or that of the checkpoint whose path was passed; None if it is None.

    Raises:
        ConfigError: as by `check_processor`.
    """
    check_processor(processor)
    if not isinstance(processor, str | Path):
        return processor
    return task(type(model).__name__).load(local_directory(processor, "allow"))


def model_preparer(
    source: Any,
    model: PreTrainedModel,
    processor: Any = None,
    model_task: Task | None = None,
    pooled_by: Path | None = None,
) -> Prepare:
    """Return a function that prepares samples with the processor that `model_processor` returns.

    Texts for a model without a head get the token that its files, or those of the processor, name for its embedding.

    Args:
        model_task: how the samples are prepared; None: as the class of the model takes them, without labels.
        pooled_by: the folder whose files name the token if there are none of the model; None: all tokens are pooled.
    """
    prepared = model_task or task(type(model).__name__)
    prepare = prepared.preparer(model_processor(source, model, processor), model.config)
    if prepared.kind != "outputs" or prepared.processor != TEXT_CLASSIFICATION.processor:
        return prepare
    folder = pooling_folder(source, processor) or pooled_by
    return prepare if folder is None else with_pooled_token(prepare, folder)


def pooling_folder(source: Any, processor: Any) -> Path | None:
    """Return the folder of a model, or of its processor if the model is loaded; None if it has no modules.json."""
    path = source if isinstance(source, str | Path) else processor
    if not isinstance(path, str | Path):
        return None
    folder = unmerged_directory(path, "allow")
    return folder if (folder / MODULES).is_file() else None


def check_processor(processor: Any) -> None:
    """Raise `ConfigError` for anything but a processor, the path of one, or None."""
    is_path = processor is None or isinstance(processor, str | Path)
    prepares = isinstance(processor, ImageTextProcessor) or callable(processor)
    if not is_path and (not prepares or isinstance(processor, nn.Module)):
        raise ConfigError(
            f"processor: found {type(processor).__name__}; give an image processor, a tokenizer, or the path of a"
            " checkpoint that has one"
        )
