"""Texts for models without a head, which make an embedding of each text, so that those of a pair are read alone."""

from dataclasses import replace

from datasets import Dataset

from transfuse.data.columns import raw_values
from transfuse.data.samples import Samples
from transfuse.data.text.text_pairs import is_pair


def with_single_texts(samples: Samples) -> Samples:
    """Return samples of one text each. Those of pairs are the different texts in them, without labels.

    Raises:
        DataError: there is no text column, or all texts are blank.
    """
    values = [] if samples.text is None else raw_values(samples.dataset, samples.text)
    if samples.text is None or not (values and is_pair(values[0])):
        return samples.require_texts()
    rows: dict[str, int] = {}  # in which each text is first
    for row, pair in zip(samples.rows, values, strict=True):
        for text in filter(str.strip, pair):
            rows.setdefault(text, row)
    texts = Dataset.from_dict({samples.text: list(rows) or [""]})
    single = replace(samples, dataset=texts, rows=tuple(rows.values()), label=None, names=None, plain=None)
    return single.require_texts()
