"""Samples for models of images and texts, such as CLIP: an image, and a text that describes it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import PreTrainedConfig

from transfuse.base.counted import counted, have
from transfuse.data.column_kinds import is_string
from transfuse.data.columns import listed_names, raw_values, with_values
from transfuse.data.image.images import image_preparer, load_processor
from transfuse.data.parts import find_column, list_of, with_parts
from transfuse.data.samples import Prepare, Samples
from transfuse.data.text.saved_tokenizer import load_tokenizer
from transfuse.data.text.texts import text_preparer
from transfuse.errors import DataError

TEXT_NAMES = ("text", "caption", "captions", "sentence", "sentences", "description", "title", "prompt", "alt_text")


@dataclass(frozen=True)
class ImageTextProcessor:
    """Prepare both sides of a pair: the image processor and the tokenizer of one checkpoint."""

    images: Any
    texts: Any


def load_both(folder: Path) -> ImageTextProcessor:
    """Return the image processor and the tokenizer saved in a folder.

    Raises:
        CheckpointError: one cannot be read, or there is no tokenizer.
    """
    return ImageTextProcessor(load_processor(folder), load_tokenizer(folder))


def with_pairs(samples: Samples) -> Samples:
    """Return samples of an image and a text each. If a column has several texts for an image, the first is read.

    A note says how many images have several texts.

    Raises:
        DataError: there are no images or no texts, or all texts are blank.
    """
    image = samples.require_images().image
    text = samples.text or find_column(samples, TEXT_NAMES, lambda kind: is_string(kind) or is_string(list_of(kind)))
    if text is None or image is None:
        names = listed_names(samples.dataset.column_names)
        raise DataError(f"{samples.name}: no column of texts that describe the images among {names}; name it 'text'")
    if not is_string(samples.dataset.features[text]):
        samples = _with_first_texts(samples, text)
    return with_parts(samples, text, {"image": image, "text": text})


def _with_first_texts(samples: Samples, column: str) -> Samples:
    """Return samples with the first text of each list in a column, and a note if there are others."""
    texts = raw_values(samples.dataset, column)
    several = sum(len(found or ()) > 1 for found in texts)
    first = replace(
        samples, dataset=with_values(samples.dataset, column, [found[0] if found else None for found in texts])
    )
    if not several:
        return first
    return first.with_note(
        f"{several} of {counted(len(samples), 'image')} {have(several)} several texts, of which the first is read;"
        " give a row for each text to read them all"
    )


def pair_preparer(processor: Any, config: PreTrainedConfig) -> Prepare:
    """Return a function from rows of an image and a text to `pixel_values`, `input_ids` and `attention_mask`.

    Args:
        processor: an `ImageTextProcessor`, or a processor of transformers with an image processor and a tokenizer.
    """
    both = isinstance(processor, ImageTextProcessor)
    images, texts = (processor.images, processor.texts) if both else (processor.image_processor, processor.tokenizer)
    vision = config.vision_config
    prepare_images = image_preparer(images, vision.num_channels, vision.image_size)
    prepare_texts = text_preparer(texts, config.text_config)

    def prepare(rows: list[Any]) -> Mapping[str, Tensor]:
        pixels = prepare_images([row["image"] for row in rows])
        return {**prepare_texts([row["text"] for row in rows]), "pixel_values": pixels["pixel_values"]}

    return prepare
