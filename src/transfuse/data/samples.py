"""Samples of a dataset, as batches that a Hugging Face model can run on."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from jaxtyping import Int
from torch import Tensor

from transfuse.base.batch import IGNORED_LABEL
from transfuse.base.counted import are, counted, have
from transfuse.data.columns import columns_of, decoded_image, raw_values, why_no_text
from transfuse.data.files.readers import root_cause
from transfuse.data.image.pixels import why_no_image
from transfuse.data.labels.class_matching import PlainLabels
from transfuse.data.labels.fraction_labels import no_labels_error
from transfuse.data.lazy_batches import LazyBatches
from transfuse.data.text.conversations import rows_with_text, text_length
from transfuse.errors import DataError

Prepare = Callable[[list[Any]], Mapping[str, Tensor]]
"""A function from a list of PIL images, or of texts, to the inputs of a model."""


@dataclass(frozen=True)
class Samples:
    """Rows of a dataset, and the columns that hold the image, the text (or pair, or conversation), and the label.

    Attributes:
        dataset: the rows.
        image: column of images, if there is one.
        text: column of texts, if there is one.
        label: column of labels, if there is one.
        name: name of the data in messages, with that of the split.
        source: path or name of the data, as records have it.
        rows: row of each sample in the source.
        names: class names of the data, if it has any.
        alphabetical: whether the classes have names only, in alphabetical order, and no ids of their own.
        plain: the labels of the whole source, if they are whole numbers or booleans.
        ids: the model's id of each class; None if data and model have the same ids.
        split: the split of the source that these rows are; None if the source has no splits.
        parts: column of each part of a sample, for models that read more than one image or one text.
        chosen_label: column of labels that was asked for, of whatever kind; None: it is to be found.
        notes: what the user should know about how the rows are read, a line each.
        files: the real paths of the files that hold the rows; empty for rows in memory.
        image_problem: why the images cannot be read; None if they can.
    """

    dataset: Dataset
    image: str | None
    text: str | None
    label: str | None
    name: str
    source: str
    rows: Sequence[int]
    names: tuple[str, ...] | None = None
    alphabetical: bool = False
    plain: PlainLabels | None = None
    ids: Mapping[int, int] | None = None
    split: str | None = None
    parts: Mapping[str, str] = field(default_factory=dict)
    chosen_label: str | None = None
    notes: tuple[str, ...] = ()
    files: frozenset[str] = frozenset()
    image_problem: str | None = None

    def __len__(self) -> int:
        return len(self.dataset)

    def take(self, limit: int | None, seed: int) -> "Samples":
        """Return `limit` random samples without replacement; all, in order, if there are no more or `limit` is None.

        With the same `seed`, a smaller `limit` gives the first samples of a larger one.

        Raises:
            DataError: `limit` is less than 1.
        """
        if limit is None or limit >= len(self):
            return self
        return self.shuffled(seed, limit)

    def shuffled(self, seed: int, limit: int | None = None) -> "Samples":
        """Return `limit` random samples in random order, or all; they begin with those that `take` returns.

        Samples that a model is made with are always shuffled, because files are often sorted by class.

        Raises:
            DataError: `limit` is less than 1.
        """
        if limit is not None and limit < 1:
            raise DataError(f"{self.name}: cannot take {counted(limit, 'sample')}; ask for 1 or more")
        return self.select(np.random.default_rng(seed).permutation(len(self))[:limit].tolist())

    def select(self, indices: Sequence[int]) -> "Samples":
        """Return the samples at `indices`, in this order."""
        return replace(self, dataset=self.dataset.select(indices), rows=tuple(self.rows[index] for index in indices))

    def batches(self, prepare: Prepare, batch_size: int) -> Iterator[dict[str, Tensor]]:
        """Yield batches that `prepare` makes of images, or of texts if there is no image column.

        With a label column, a batch has `labels` [sample] int64, `IGNORED_LABEL` for a row without a label.

        Raises:
            DataError: there is no image or text column, or an image cannot be decoded.
        """
        return iter(self.lazy_batches(prepare, batch_size))

    def lazy_batches(self, prepare: Prepare, batch_size: int) -> LazyBatches:
        """Return the same batches as a sequence that prepares each batch whenever it is accessed."""
        labels = self.labels() if self.label else None
        return LazyBatches(len(self), batch_size, self.inputs, prepare, labels)

    def longest_index(self) -> int:
        """Return the index of the text or conversation with the most characters; for images, 0."""
        if self.image is not None or self.text is None:
            return 0
        lengths = [text_length(value) for value in raw_values(self.dataset, self.text)]
        return max(range(len(lengths)), key=lengths.__getitem__)

    def inputs(self, indices: Sequence[int]) -> list[Any]:
        """Return the decoded images, or else the texts, of the samples at `indices`; their parts by name, if any.

        Raises:
            DataError: there is no image or text column, or an image cannot be decoded.
        """
        if self.parts:
            return self._rows_of_parts(indices)
        column = self.image or self.text
        if column is None:
            why = f"{self.name}: no image and no text column among {self._columns()}; name one 'text'"
            raise DataError(self.image_problem or why)
        values = raw_values(self.dataset.select(indices), column)
        if self.image is None:
            return [value or "" for value in values]
        return [self._decoded(value, index) for index, value in zip(indices, values, strict=True)]

    def labels(self) -> Int[Tensor, " sample"]:
        """Return the class of each sample, with the model's ids after `align_classes`.

        A label that is null, an empty text or negative in the data becomes `IGNORED_LABEL`.

        Raises:
            NoLabelsError: there is no label column.
            DataError: a label is too large to be a class, or the column of labels holds no classes.
        """
        if self.label is None:
            raise no_labels_error(self.dataset, self.chosen_label, self.text, self.rows, self.name)
        values = raw_values(self.dataset, self.label)
        if isinstance(next((value for value in values if value is not None), None), str):
            ids = {name: index for index, name in enumerate(self.names or ())}
            values = [ids.get(value) for value in values]
        numbers = [IGNORED_LABEL if value is None else int(value) for value in values]
        if max(numbers, default=0) > torch.iinfo(torch.int64).max:
            raise DataError(f"{self.name}: label {max(numbers)} is too large a number for a class; correct it")
        if self.ids is not None:
            numbers = [self.ids[number] if number >= 0 else number for number in numbers]
        classes = torch.tensor(numbers)
        return torch.where(classes >= 0, classes, IGNORED_LABEL)

    def require_images(self) -> "Samples":
        """Return these samples without texts.

        Raises:
            DataError: there is no image column, two columns may be it, or an image is missing.
        """
        if self.image is None:
            raise DataError(self.image_problem or f"{self.name}: {why_no_image(self.dataset, self._columns())}")
        return replace(self, text=None)

    def require_texts(self) -> "Samples":
        """Return these samples without images, and without rows whose text is missing or blank.

        Raises:
            DataError: there is no text column, or all texts are blank.
        """
        if self.text is None:
            raise DataError(f"{self.name}: {why_no_text(self.dataset, self.text)}")
        return replace(self.without_blank_texts(self.text), image=None)

    def without_blank_texts(self, column: str) -> "Samples":
        """Return the samples whose text in a column is neither missing nor blank, with a note on the others.

        Raises:
            DataError: all texts are blank.
        """
        written, incomplete = rows_with_text(self.dataset, column)
        if not written:
            raise DataError(f"{self.name}: all texts of column {column!r} are empty; choose another column")
        texts = self
        missing = len(self) - len(written)
        if missing:
            left_out = f"{missing} of {counted(len(self), 'text')} {are(missing)} empty and left out"
            texts = texts.select(written).with_note(left_out)
        if incomplete:
            texts = texts.with_note(
                f"{counted(incomplete, 'sample')} {have(incomplete)} an empty part, which stays empty"
            )
        return texts

    def require_labels(self) -> "Samples":
        """Return these samples if all of them have labels.

        Raises:
            DataError: there is no label column, or a sample has no label.
        """
        missing = (self.labels() == IGNORED_LABEL).nonzero().flatten().tolist()
        if missing:
            raise DataError(
                f"{self.name}: {len(missing)} of {counted(len(self), 'sample')} {have(len(missing))} no label, the"
                f" first in row {self.rows[missing[0]]} (from 0); use a split with labels or remove them"
            )
        return self

    def with_note(self, line: str) -> "Samples":
        """Return these samples with a further line on how they are read."""
        line = f"{self.name}: {line}"
        return self if line in self.notes else replace(self, notes=(*self.notes, line))

    def _rows_of_parts(self, indices: Sequence[int]) -> list[Any]:
        """Return a row for each sample: the value of each part by its name, and the class names of the data."""
        selected = self.dataset.select(indices)
        columns = {part: raw_values(selected, column) for part, column in self.parts.items()}
        if "image" in columns:
            columns["image"] = [
                self._decoded(value, index) for index, value in zip(indices, columns["image"], strict=True)
            ]
        rows = (dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True))
        return [row | {"names": self.names} for row in rows]

    def _decoded(self, value: dict[str, Any] | None, index: int) -> Any:
        try:
            return decoded_image(value, self.dataset.features[self.image])
        except Exception as error:  # PIL raises many kinds of errors
            path = (value or {}).get("path")
            where = f"{self.name}: row {self.rows[index]} (from 0)" + (f", {path}" if path else "")
            raise DataError(f"{where}: not an image that can be decoded ({root_cause(error)}); remove it") from error

    def _columns(self) -> str:
        return columns_of(self.dataset, self.text)
