"""Samples: what people have, as batches that a Hugging Face model can run on."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset, DatasetDict, Value
from jaxtyping import Int
from torch import Tensor

from transfuse.base.batch import IGNORED_LABEL
from transfuse.base.libraries import quiet
from transfuse.data.columns import (
    class_names,
    decoded_image,
    image_column,
    label_column,
    match_classes,
    raw_values,
    text_column,
)
from transfuse.data.lazy_batches import LazyBatches
from transfuse.data.sources import open_source, root_cause
from transfuse.data.splits import EVALUATION, Split
from transfuse.errors import DataError

Prepare = Callable[[list[Any]], Mapping[str, Tensor]]
"""From a list of PIL images, or of texts, to the inputs of a model."""


@dataclass(frozen=True)
class Samples:
    """Rows of a dataset, and which of its columns hold the image, the text and the label.

    `source` names the data in messages and reports, `rows` the place of each sample in it, `names` the classes of
    the data, and `ids` the model's id of each of those classes (None: the same).
    """

    dataset: Dataset
    image: str | None
    text: str | None
    label: str | None
    source: str
    rows: Sequence[int]
    names: tuple[str, ...] | None = None
    ids: tuple[int, ...] | None = None

    def __len__(self) -> int:
        return len(self.dataset)

    def take(self, limit: int | None, seed: int) -> "Samples":
        """`limit` samples at random without replacement; all, in order, if there are no more or `limit` is None.

        A smaller `limit` with the same `seed` takes a prefix of a larger one.

        Raises:
            DataError: `limit` is less than 1.
        """
        if limit is None or limit >= len(self):
            return self
        if limit < 1:
            raise DataError(f"{self.source}: cannot take {limit} samples; ask for 1 or more")
        return self._only(np.random.default_rng(seed).permutation(len(self))[:limit].tolist())

    def shuffled(self, seed: int) -> "Samples":
        """All samples in random order: those that `take` takes come first."""
        return self._only(np.random.default_rng(seed).permutation(len(self)).tolist())

    def _only(self, chosen: Sequence[int]) -> "Samples":
        return replace(self, dataset=self.dataset.select(chosen), rows=tuple(self.rows[row] for row in chosen))

    def batches(self, prepare: Prepare, batch_size: int) -> Iterator[dict[str, Tensor]]:
        """What `prepare` makes of each `batch_size` images (of texts, if there is no image column), lazily.

        `labels` is added when there is a label column, [batch] int64, with `IGNORED_LABEL` where a row has none.

        Raises:
            DataError: no image and no text, or an image that cannot be decoded.
        """
        return iter(self.prepared(prepare, batch_size))

    def prepared(self, prepare: Prepare, batch_size: int) -> LazyBatches:
        """The same batches, to be asked for by their places, again and again."""
        labels = self.labels() if self.label else None
        return LazyBatches(len(self), batch_size, self.inputs, prepare, labels)

    def longest(self) -> int:
        """The place of the text with the most letters; of images, the first."""
        if self.image is not None or self.text is None:
            return 0
        lengths = [len(value or "") for value in raw_values(self.dataset, self.text)]
        return max(range(len(lengths)), key=lengths.__getitem__)

    def inputs(self, chosen: Sequence[int]) -> list[Any]:
        """The decoded images, or else the texts, of the chosen samples."""
        column = self.image or self.text
        if column is None:
            raise DataError(f"{self.source}: no image and no text column among {self._columns()}; name one 'text'")
        values = raw_values(self.dataset.select(chosen), column)
        if self.image is None:
            return [value or "" for value in values]
        return [self._decoded(value, index) for index, value in zip(chosen, values, strict=True)]

    def labels(self) -> Int[Tensor, " sample"]:
        """Return the class of each sample, in the model's ids once `aligned_to` it.

        A class that is null or negative in the data is `IGNORED_LABEL`.

        Raises:
            DataError: there is no label column, or a number in it that no class can have.
        """
        if self.label is None:
            raise DataError(f"{self.source}: no class label among {self._columns()}; name that column 'label'")
        values = raw_values(self.dataset, self.label)
        if isinstance(next((value for value in values if value is not None), None), str):
            order = {name: index for index, name in enumerate(self.names or ())}
            values = [None if value is None else order[value] for value in values]
        numbers = [IGNORED_LABEL if value is None else int(value) for value in values]
        if max(numbers, default=0) > torch.iinfo(torch.int64).max:
            raise DataError(f"{self.source}: label {max(numbers)} is too large a number for a class; correct it")
        classes = torch.tensor(numbers)
        known = classes >= 0
        if self.ids is not None:
            classes[known] = torch.tensor(self.ids)[classes[known]]
        return torch.where(known, classes, IGNORED_LABEL)

    def require_images(self) -> "Samples":
        """These samples, as images only.

        Raises:
            DataError: there is no image column.
        """
        if self.image is None:
            raise DataError(
                f"{self.source}: no image column among {self._columns()}; the model takes images (an Image feature,"
                " encoded bytes, or a column of image file names)"
            )
        return replace(self, text=None)

    def require_texts(self) -> "Samples":
        """These samples, as texts only.

        Raises:
            DataError: there is no text column.
        """
        if self.text is None:
            raise DataError(f"{self.source}: no text column among {self._columns()}; name the one to read 'text'")
        return replace(self, image=None)

    def require_labels(self) -> "Samples":
        """These samples.

        Raises:
            DataError: there is no label column, or a sample without a label.
        """
        missing = (self.labels() == IGNORED_LABEL).nonzero().flatten().tolist()
        if missing:
            raise DataError(
                f"{self.source}: {len(missing)} of {len(self)} samples have no label, the first in row"
                f" {self.rows[missing[0]]} (from 0); use a split with labels or remove them"
            )
        return self

    def aligned_to(self, id2label: Mapping[int, str]) -> "Samples":
        """These samples, labelled with the ids of a model whose config has `id2label`.

        Classes are matched by name, without case, when both sides have names; the data may lack some of the model's.
        Otherwise (LABEL_0, LABEL_1, ... in the model, or plain numbers in the data) ids are kept, if in range.

        Raises:
            DataError: a class of the data that the model does not know, an id out of range, or a missing label.
        """
        self.require_labels()
        samples = replace(self, ids=match_classes(self.names, id2label, self.source))
        collected = self.names is not None and isinstance(self.dataset.features[self.label], Value)
        if samples.ids is None and collected and len(self.names or ()) < len(id2label):
            raise DataError(
                f"{self.source}: {len(self.names or ())} class names, and {len(id2label)} classes without names in the"
                " model: which is which? give numbers as labels, or id2label in the model's config.json"
            )
        labels = samples.labels()
        if labels.max() >= len(id2label):
            row = self.rows[int(labels.argmax())]
            raise DataError(
                f"{self.source}: label {int(labels.max())} in row {row} (from 0), but the model has"
                f" {len(id2label)} classes; use the data, or the model, of the other task"
            )
        return samples

    def _decoded(self, value: dict[str, Any] | None, index: int) -> Any:
        try:
            return decoded_image(value, self.dataset.features[self.image])
        except Exception as error:  # PIL raises as many kinds as there are ways for a file to be broken
            path = (value or {}).get("path")
            where = f"{self.source}: row {self.rows[index]} (from 0)" + (f", {path}" if path else "")
            raise DataError(f"{where}: not an image that can be decoded ({root_cause(error)}); remove it") from error

    def _columns(self) -> str:
        return ", ".join(repr(name) for name in self.dataset.column_names)


def load_samples(source: str | Path | Dataset | DatasetDict, split: Split = EVALUATION) -> Samples:
    """Samples from whatever `source` is; everything but a Hub name is read without the network.

    * a folder of images, in one sub-folder per class or without labels, or in one folder per split
    * a .parquet, .csv, .tsv, .json, .jsonl or .txt file, or a folder of those (with images that they name)
    * what `Dataset.save_to_disk` or `DatasetDict.save_to_disk` wrote, or either in memory
    * else the name of a dataset on the Hub

    Of several splits it takes the one called `split`, or the first of those preferred: test before train to evaluate,
    train before test to calibrate.
    Columns are recognised as `transfuse.data.columns` says. Class names come from a `ClassLabel`, else from sorting
    the distinct values of a string label; integer labels have none.

    Raises:
        DataError: nothing there or nothing readable, no such split, no rows, or two columns that could be the image.
    """
    with quiet():
        opened = open_source(source, split)
    dataset, name = opened.dataset, opened.name
    if len(dataset) == 0:
        raise DataError(f"{name}: empty; no rows in it")
    label = label_column(dataset)
    names = None if label is None else class_names(dataset, label)
    text = text_column(dataset, label)
    return Samples(dataset, image_column(dataset), text, label, name, range(len(dataset)), names)
