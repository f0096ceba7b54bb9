"""Samples with the class ids of a model."""

from collections.abc import Mapping
from dataclasses import replace

from transfuse.base.counted import counted
from transfuse.data.labels.class_matching import OTHER_TASK, alphabetical_order, match_classes, match_plain
from transfuse.data.samples import Samples
from transfuse.errors import DataError


def align_classes(samples: Samples, id2label: Mapping[int, str]) -> Samples:
    """Return the samples with the class ids of a model whose config has `id2label`.

    Classes are matched by name, without case, if both sides have names; the data may lack some classes of the model.
    Numbers and booleans are names if the model's classes are called like these. Otherwise (LABEL_0, LABEL_1, ... in the
    model, or plain numbers in the data) ids are kept. Names without ids are then numbered in alphabetical order, as
    most tools do. A note says so, and where numbers could be names or ids.

    Raises:
        DataError: the model lacks a class of the data, an id is out of range, a label is missing, or the model has more
            classes than the data, without names.
    """
    samples.require_labels()
    note = None
    if samples.plain is not None:
        ids, note = match_plain(samples.plain, id2label)
    else:
        ids = match_classes(samples.names, id2label, samples.name)
        if ids is None and samples.alphabetical and samples.names:
            note = alphabetical_order(samples.names, len(id2label), samples.name)
    aligned = replace(samples, ids=ids) if note is None else replace(samples, ids=ids).with_note(note)
    labels = aligned.labels()
    if labels.max() >= len(id2label):
        row = aligned.rows[int(labels.argmax())]
        raise DataError(
            f"{samples.name}: label {int(labels.max())} in row {row} (from 0), but the model has"
            f" {counted(len(id2label), 'class')}; {OTHER_TASK}"
        )
    return aligned
