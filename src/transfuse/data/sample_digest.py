"""The hash of samples, which tells whether an interrupted run goes on with what it began with."""

import hashlib
from pathlib import Path
from typing import Any

from transfuse.base.hashing import text_digest
from transfuse.data.samples import Samples

ROWS_AT_ONCE = 1000


def content_digest(samples: Samples) -> str:
    """Return the SHA-256, in hexadecimal, of the values that samples are made of: images, texts and labels, in order.

    An image in a file of its own counts by its path and size, which are read much faster than the image.
    """
    columns = {samples.image, samples.text, samples.label, *samples.parts.values()} - {None}
    dataset = samples.dataset.select_columns(sorted(map(str, columns))).with_format("arrow")
    rows = (table.to_pylist() for table in dataset.iter(ROWS_AT_ONCE))
    hashes = [text_digest(repr([{name: _short(row[name]) for name in sorted(row)} for row in part])) for part in rows]
    return text_digest(repr((samples.names, hashes)))


def _short(value: Any) -> Any:
    """Return a value, or what stands for an image: its hash, or path and size of its file."""
    if not isinstance(value, dict) or value.keys() != {"bytes", "path"}:
        return value
    if value["bytes"] is not None:
        return hashlib.sha256(value["bytes"]).hexdigest()
    file = Path(value["path"] or "")
    return str(file), file.stat().st_size if file.is_file() else None
