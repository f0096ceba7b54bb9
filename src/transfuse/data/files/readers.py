"""Files of every kind that is read, as one `Dataset`."""

from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path

import datasets
from datasets import Dataset
from pyarrow import ArrowException
from pyarrow.parquet import read_metadata

from transfuse.data.files.json_files import json_rows, read_json_lines
from transfuse.data.files.other_files import ALIASES, INSTEAD, advice
from transfuse.data.files.text_files import escaped, read_texts
from transfuse.data.files.text_tables import TEXT_TABLES, read_csv, read_tsv
from transfuse.errors import DataError, in_short

READERS: Mapping[str, Callable[[list[Path]], Dataset]] = {
    ".parquet": lambda files: Dataset.from_parquet(escaped(files)),
    ".csv": read_csv,
    ".tsv": read_tsv,
    ".json": json_rows,
    ".jsonl": read_json_lines,
    ".ndjson": read_json_lines,
    ".txt": read_texts,
}
COMPRESSED = (".bz2", ".gz", ".xz", ".zst")  # after the kind of a file; `datasets` reads these as they are
KNOWN = {*INSTEAD, *ALIASES} - {".md"}  # kinds of files that are not read, but with which something can be done
READABLE = f"images, {', '.join(READERS)}, or what save_to_disk writes"


def kind_of(path: Path) -> str:
    """Return the suffix that tells the kind of a file, in lower case; ".jsonl" for "texts.jsonl.gz"."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    return suffixes[-2] if len(suffixes) > 1 and suffixes[-1] in COMPRESSED else (suffixes or [""])[-1]


def root_cause(error: BaseException) -> str:
    """Return the message of the first cause of `error`, in one line and without a period at its end."""
    error = _first_cause(error)
    return in_short(error).removesuffix(".") or type(error).__name__


def _first_cause(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def is_empty(path: Path) -> bool:
    """Return whether a file has no bytes, or is a Parquet file without rows, which the reader cannot read."""
    if path.stat().st_size == 0:
        return True
    try:
        return kind_of(path) == ".parquet" and read_metadata(path).num_rows == 0
    except ArrowException:  # the reader says what is wrong
        return False


def read_files(files: list[Path], lines: bool) -> Dataset:
    """Read files of one kind, and say which of them cannot be read.

    Args:
        lines: whether each line of a .txt file is a text, also if blank lines separate longer texts.

    Raises:
        DataError: they are of a kind that is not read, they have no rows, or one cannot be read.
    """
    suffix = kind_of(files[0])
    if suffix not in READERS:
        raise DataError(f"{files[0]}: {advice(files[0], suffix, READABLE)}")
    try:
        if suffix == ".txt":
            return read_texts(files, lines)
        return READERS[suffix](files)
    except DataError:
        raise
    except Exception as error:
        if "corresponds to no data" in str(error):  # the message of `datasets` for files without rows
            raise DataError(f"{', '.join(map(str, files[:3]))}: empty; no rows in it") from error
        for path in files if len(files) > 1 else []:
            read_files([path], lines)  # names the file that cannot be read, if there is one
        if isinstance(_first_cause(error), UnicodeDecodeError):
            excel = " (in Excel: CSV UTF-8)" if suffix in TEXT_TABLES else ""
            raise DataError(f"{files[0]}: is not UTF-8; save it as UTF-8{excel}") from error
        cause = _first_cause(error)
        own = [path.resolve() for path in files]
        if isinstance(cause, OSError) and cause.filename and Path(cause.filename).resolve() not in own:
            raise DataError(
                f"{cause.filename}: {cause.strerror}; tables are read by way of the folder that HF_DATASETS_CACHE names"
                f" ({datasets.config.HF_DATASETS_CACHE}), which must be writable"
            ) from error
        problem = f"{files[0].parent}: cannot be read together"
        if len(files) == 1:
            problem = f"{files[0]}: cannot be read as {suffix[1:]}"
        if files[0].suffix.lower() == ".zst" and find_spec("zstandard") is None:
            raise DataError(f"{files[0]}: needs the package zstandard; `pip install zstandard` adds it") from error
        raise DataError(f"{problem}: {root_cause(error)}; repair or remove it") from error
