"""What a model does decides what samples it takes, who prepares them, and what they are measured by."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from transformers import PreTrainedConfig

from transfuse.errors import SpecError
from transfuse.io.data import Prepare, Samples
from transfuse.io.images import image_preparer, load_processor
from transfuse.io.texts import load_tokenizer, masked_preparer, text_preparer


@dataclass(frozen=True)
class Task:
    """What goes with a kind of model.

    Attributes:
        processor: what users call the thing that prepares samples.
        samples: given data as calibration samples.
        labelled: given data as samples to measure on; labels, if any, still with the ids of the data.
        load: the processor saved in a folder.
        preparer: from a processor to a function from raw samples to a batch.
        settings: what makes two processors do the same.
    """

    processor: str
    samples: Callable[[Samples], Samples]
    labelled: Callable[[Samples], Samples]
    load: Callable[[Path, PreTrainedConfig], Any]
    preparer: Callable[[Any, PreTrainedConfig], Prepare]
    settings: Callable[[Any], Any]


def _texts_alone(samples: Samples) -> Samples:
    """Without labels: the words that are hidden are the labels."""
    return replace(samples.require_texts(), label=None)


def _images(processor: Any, config: PreTrainedConfig) -> Prepare:
    return image_preparer(processor, config.num_channels, getattr(config, "image_size", None))


def _texts(tokenizer: Any, config: PreTrainedConfig) -> Prepare:
    return text_preparer(tokenizer, config.max_position_embeddings)


def _masked_texts(tokenizer: Any, config: PreTrainedConfig) -> Prepare:
    return masked_preparer(tokenizer, config.max_position_embeddings)


def _pixels(processor: Any) -> Any:
    """How pixels are made; names and types of the classes do not matter."""
    return {name: value for name, value in processor.to_dict().items() if not name.endswith("_type")}


def _vocabulary(tokenizer: Any) -> Any:
    return tokenizer.get_vocab()


TASKS: dict[str, Task] = {
    "ForImageClassification": Task(
        "image processor",
        Samples.require_images,
        lambda samples: samples.require_images().require_labels(),
        load_processor,
        _images,
        _pixels,
    ),
    "ForSequenceClassification": Task(
        "tokenizer",
        Samples.require_texts,
        lambda samples: samples.require_texts().require_labels(),
        load_tokenizer,
        _texts,
        _vocabulary,
    ),
    "ForMaskedLM": Task(
        "tokenizer",
        _texts_alone,
        _texts_alone,
        load_tokenizer,
        _masked_texts,
        _vocabulary,
    ),
}


def task(architecture: str) -> Task:
    """The task of a transformers class, by its name. Raises `SpecError` for one that cannot be measured."""
    for ending, found in TASKS.items():
        if architecture.endswith(ending):
            return found
    raise SpecError(
        f"{architecture} cannot be measured: only image and text classifiers and masked-language models can;"
        " give one of those"
    )
