"""What to do with files of kinds that are not read."""

from collections.abc import Mapping
from pathlib import Path

from transfuse.data.columns import IMAGE_SUFFIXES

SAVE = ".save_to_disk('FOLDER')` in Python makes a folder that is read"
INSTEAD: Mapping[str, str] = {
    ".tar": "unpack it and give the folder; if it is a shard of WebDataset,"
    " `datasets.load_dataset('webdataset', data_files='{name}', split='train')" + SAVE,
    ".arrow": "`datasets.Dataset.from_file('{name}')" + SAVE,
    ".feather": "`datasets.Dataset.from_pandas(pandas.read_feather('{name}'))" + SAVE,
    ".sqlite": "`datasets.Dataset.from_sql('select * from TABLE', sqlite3.connect('{name}'))" + SAVE,
    ".xml": "`datasets.load_dataset('xml', data_files='{name}', split='train')" + SAVE,
    ".xlsx": "save it as .csv",
    ".zip": "unpack it, and give the folder",
    ".md": "call it .txt",
    ".conll": "call it .txt",
}
ALIASES = {
    **{".db": ".sqlite", ".sqlite3": ".sqlite", ".tgz": ".tar", ".xls": ".xlsx", ".ods": ".xlsx", ".7z": ".zip"},
    **dict.fromkeys((".bio", ".iob", ".iob2"), ".conll"),
}


def advice(path: Path, kind: str, readable: str) -> str:
    """Return what to do with a file that is not read.

    Args:
        kind: suffix of the file, in lower case.
        readable: the kinds that are read.
    """
    if kind in IMAGE_SUFFIXES:
        return "is a single image; give the folder that it is in"
    found = INSTEAD.get(ALIASES.get(kind, kind))
    if found is None:
        return f"not a kind of file that can be read; expected {readable}"
    return f"{kind} files are not read; {found.replace('{name}', path.name)}"
