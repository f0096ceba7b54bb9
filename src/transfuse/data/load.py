"""Load samples from a file, a folder, memory or the Hub, and find their columns."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset

from transfuse.base.libraries import quiet
from transfuse.checkpoint.record.command import DATASET_IN_MEMORY
from transfuse.config.data_options import DataOptions
from transfuse.data.column_kinds import could_be_label, holds_labels, is_string
from transfuse.data.columns import check_column, class_names, image_column, label_column, text_column
from transfuse.data.files.in_memory import ACCEPTED
from transfuse.data.files.reading import Reading
from transfuse.data.files.sources import open_source
from transfuse.data.files.splits import EVALUATION, Split, canonical_split
from transfuse.data.labels.class_matching import plain_labels
from transfuse.data.labels.fraction_labels import with_whole_labels
from transfuse.data.samples import Samples
from transfuse.data.text.conversations import (
    conversation_column,
    with_conversations,
    with_joined_conversations,
    with_system_messages,
)
from transfuse.data.text.messages import holds_messages, with_decoded_messages
from transfuse.data.text.text_pairs import pair_columns, with_pair_column
from transfuse.errors import ConfigError, DataError


def open_samples(data: Any, options: DataOptions, split: Split) -> Samples:
    """Return `Samples` as they are, and load anything else with the split and the columns of the options.

    Args:
        split: the split to read unless the options name one, as for `load_samples`.
    """
    if isinstance(data, Samples):
        return data
    columns = (options.text_column, options.label_column, options.image_column)
    return load_samples(data, options.split or split, *columns, options.lines)


def warn_of_test_split(data: Any) -> None:
    """Warn if `Samples` that a model is to be made with are a test split, which `load_samples` reads by default."""
    if isinstance(data, Samples) and canonical_split(data.split or "") == "test":
        warnings.warn(
            f"{data.name}: a test split cannot measure the model that is made with it; read another one with"
            " load_samples(..., split='train')",
            stacklevel=3,
        )


def data_name(data: Any) -> str | None:
    """Return the path or name of the samples, or `dataset in memory`."""
    if data is None:
        return None
    if isinstance(data, Samples):
        return data.source
    return str(data) if isinstance(data, str | Path) else DATASET_IN_MEMORY


def split_of(data: Any) -> str | None:
    """Return the split that the samples are, if they are `Samples` of a source with splits."""
    return data.split if isinstance(data, Samples) else None


def is_same_source(data: Any, samples: Samples) -> bool:
    """Return whether samples are from the same source as other data, or from one of its files, by whatever path.

    Args:
        data: `Samples`, or what they are read from, which is compared by its name.
    """
    name, files = (data.name, data.files) if isinstance(data, Samples) else (data_name(data), frozenset())
    return samples.name == name or not samples.files.isdisjoint(files)


def load_samples(
    source: Any,
    split: Split = EVALUATION,
    text: str | None = None,
    label: str | None = None,
    image: str | None = None,
    lines: bool = False,
) -> Samples:
    """Load samples from a source of any of these kinds, of which only the last needs the network:

    * a folder of images, with one subfolder per class or without labels, possibly in one folder per split
    * a .parquet, .csv, .tsv, .json, .jsonl or .txt file, or a folder of those (with images that they name)
    * a folder written by `Dataset.save_to_disk` or `DatasetDict.save_to_disk`
    * samples in memory, of any kind that `transfuse.data.files.in_memory.as_dataset` lists: texts, images, rows, a
      DataFrame
    * the name of a dataset on the Hub

    Texts are one column of strings, two columns that are read as pairs (such as `premise` and `hypothesis`),
    conversations (`messages`, with `role` and `content`), or instructions (columns such as `instruction`, `input` and
    `output`, or `system_prompt`, `question` and `response`), which become conversations. The tokenizer's chat template
    writes conversations as texts.

    `transfuse.data.columns` recognizes the columns. Class names are those of a `ClassLabel`, or the sorted values of a
    string label; whole numbers and booleans have none, but may be those of the model's classes.

    Args:
        split: the split to read if there are several, by name or in order of preference; by default, test before
            train, to evaluate. Read "train" to fuse or train with the samples.
        text: the column of texts or conversations, or two columns of texts as "premise,hypothesis"; None: the one that
            `transfuse.data.columns` finds, or a usual pair.
        label: the column of labels; None: the one that `transfuse.data.columns` finds.
        image: the column of images, of encoded images, or of their file names; None: the only one there is.
        lines: whether each line of a .txt file is a text; otherwise blank lines separate texts, if there are any.

    Raises:
        ConfigError: `split` is not a name.
        DataError: the name is empty, there is no such source, split or column, nothing in it can be read, it has no
            rows.
    """
    if isinstance(source, str) and not source.strip():  # which `Path` takes for the current folder
        raise DataError(f"data: the name is empty; {ACCEPTED}")
    if not isinstance(split, str) and not (isinstance(split, Sequence) and all(isinstance(n, str) for n in split)):
        raise ConfigError(f"split: {split!r:.80} is not the name of a split; give a name, such as 'train'")
    with quiet():
        opened = open_source(source, Reading(split, image, lines))
    dataset = opened.dataset
    name = opened.name
    if len(dataset) == 0:
        raise DataError(f"{name}: empty; no rows in it")
    check_column(dataset, label, "label", holds_labels, name)
    chosen = label
    dataset = with_whole_labels(dataset, label)
    label = label_column(dataset) if label is None else label if could_be_label(dataset.features[label]) else None
    names = None if label is None else class_names(dataset, label)
    plain = plain_labels(dataset, label, opened.is_text) if label is not None and names is None else None
    with quiet():
        dataset, text = _with_texts(dataset, text, label, name)
    columns = (None if opened.image_problem else image_column(dataset), text, label)
    return Samples(
        dataset,
        *columns,
        name,
        opened.source,
        range(len(dataset)),
        names,
        alphabetical=opened.alphabetical or (label is not None and is_string(dataset.features[label])),
        plain=plain,
        split=opened.split,
        chosen_label=chosen,
        notes=tuple(f"{name}: {line}" for line in opened.notes),
        files=opened.files,
        image_problem=opened.image_problem,
    )


def _with_texts(dataset: Dataset, named: str | None, label: str | None, source: str) -> tuple[Dataset, str | None]:
    """Return a dataset with one column of texts, pairs or conversations, and that column; None if there is none.

    Args:
        named: the column that was asked for, or two with a comma between them.
    """
    dataset = with_decoded_messages(dataset)
    if named is not None and named not in dataset.features and named.count(",") == 1:
        chosen = [name.strip() for name in named.split(",")]
        for name in chosen:
            check_column(dataset, name, "text", is_string, source)
        return with_pair_column(dataset, chosen)
    check_column(dataset, named, "text", lambda feature: is_string(feature) or holds_messages(feature), source)
    if named is not None:
        talks = holds_messages(dataset.features[named])
        return with_system_messages(dataset, named) if talks else dataset, named
    dataset = with_joined_conversations(dataset)
    if found := conversation_column(dataset):
        return with_system_messages(dataset, found), found
    if pair := pair_columns(dataset):
        return with_pair_column(dataset, pair)
    if found := text_column(dataset, label):
        return dataset, found
    dataset = with_conversations(dataset)
    return dataset, conversation_column(dataset)
