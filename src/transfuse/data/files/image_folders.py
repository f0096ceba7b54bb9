"""Folders of images: which of their subfolders are classes, and which are splits."""

import os
from collections import Counter
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path

from datasets import ClassLabel, Dataset, Features, Image

from transfuse.base.counted import are, counted
from transfuse.data.columns import IMAGE_SUFFIXES, listed_names
from transfuse.data.files.reading import NamedDataset, real_paths
from transfuse.data.files.splits import Split, canonical_split, pick_own_split, sole_split, with_split
from transfuse.errors import DataError

DESCRIPTIONS = ("", ".md", ".txt")  # kinds of files beside images that hold none


def is_image(path: Path) -> bool:
    """Return whether the suffix of a file is that of an image that is read."""
    return path.suffix.lower() in IMAGE_SUFFIXES


def read_images(folder: Path, files: Sequence[Path], split: Split) -> NamedDataset:
    """Read the images of a folder, with the names of subfolders as classes, and as splits if all are names of splits.

    Args:
        files: all files in the folder, some of which are images.

    Raises:
        DataError: there is no such split, only some folders name a split, or an image lies beside a folder of images.
    """
    images = list(filter(is_image, files))
    _require_one_level(images)
    top = _top(folder, images)
    splits, notes = _by_split(top, images)
    chosen, own_split = pick_own_split(splits, split, folder, sole_split(folder.name))
    levels = {len(path.parts) for path in splits[chosen]}
    classes = sorted({path.parent.name for path in images if len(path.parts) in levels})
    columns: dict[str, list[str] | list[int]] = {"image": [str(path.absolute()) for path in splits[chosen]]}
    features = {"image": Image()}
    above_classes = len(top.parts) + bool(chosen)
    if len(classes) > 1 and len(levels) == 1 and min(levels) > above_classes + 1:
        columns["label"] = [classes.index(path.parent.name) for path in splits[chosen]]
        features["label"] = ClassLabel(names=classes)
    return NamedDataset(
        Dataset.from_dict(columns, features=Features(features)),
        with_split(str(folder), chosen),
        str(folder),
        own_split or None,
        alphabetical=True,
        files=real_paths(splits[chosen]),
        notes=(*notes, *_left_out(files)),
    )


def _require_one_level(images: Sequence[Path]) -> None:
    above = {parent for lowest in {path.parent for path in images} for parent in lowest.parents}
    for path in images:
        if path.parent in above:
            raise DataError(
                f"{path}: lies beside folders of images, so it has no class or split; move it into one of them, or"
                " remove it"
            )


def _top(folder: Path, images: Sequence[Path]) -> Path:
    """Return the lowest folder with all images, or the first one on the way to it that holds a folder of a split."""
    between = Path(os.path.commonpath([path.parent for path in images])).relative_to(folder).parts
    return folder.joinpath(*takewhile(lambda name: not canonical_split(name), between))


def _by_split(folder: Path, images: Sequence[Path]) -> tuple[dict[str, list[Path]], tuple[str, ...]]:
    """Return the images of each split, or all as "", and a line if names of classes could be those of splits.

    Folders of folders cannot be classes, so that any part of their name can tell the split. Other folders are splits if
    their names are nothing else. One folder of such a name among others is a class: a train, for example.

    Raises:
        DataError: some folders name a split and others do not, or folders of classes hold folders of splits.
    """
    tops = sorted({path.relative_to(folder).parts[0] for path in images if path.parent != folder})
    has_folders_inside = any(len(path.relative_to(folder).parts) > 2 for path in images)
    named_by = canonical_split if has_folders_inside or len(tops) == 1 else sole_split
    named = [top for top in tops if named_by(top)]
    others = [top for top in tops if top not in named]
    if named and not others:
        splits: dict[str, list[Path]] = {}
        for path in images:
            splits.setdefault(named_by(path.relative_to(folder).parts[0]), []).append(path)
        return splits, ()
    if len(named) > 1 or (named and has_folders_inside):
        shown = next((top for top in named if named_by(top) == "train"), named[0])
        raise DataError(
            f"{folder}: some folders name a split ({listed_names(named)}) and {others[0]} does not; give the folder to"
            f" read, such as {folder / shown}, or rename {others[0]}"
        )
    _require_no_inner_splits(folder, images)
    unclear = named or (tops if all(map(canonical_split, tops)) else [])
    if not unclear:
        return {"": list(images)}, ()
    kind = "a class, not a split" if len(unclear) == 1 else "classes, not splits"
    return {"": list(images)}, (f"{listed_names(unclear)} {are(len(unclear))} read as {kind}",)


def _require_no_inner_splits(folder: Path, images: Sequence[Path]) -> None:
    inside: dict[str, set[str]] = {}  # names of the folders in each subfolder
    for parts in sorted({path.parent.relative_to(folder).parts for path in images}):
        for depth in range(1, len(parts)):
            inside.setdefault("/".join(parts[:depth]), set()).add(parts[depth])
    divided = [name for name, names in inside.items() if len(names) > 1 and all(map(sole_split, names))]
    if divided:
        raise DataError(
            f"{folder}: several folders are divided into splits ({listed_names(divided)}); give one of them, or put the"
            " folders of the splits above the others"
        )


def _left_out(files: Sequence[Path]) -> tuple[str, ...]:
    """Return a line on the files that are neither images that are read nor descriptions, if there are any."""
    kinds = Counter(path.suffix.lower() for path in files if not is_image(path))
    left_out = {kind: count for kind, count in sorted(kinds.items()) if kind not in DESCRIPTIONS}
    if not left_out:
        return ()
    number = sum(left_out.values())
    shown = ", ".join(f"{count} {kind}" for kind, count in left_out.items())
    return (f"{counted(number, 'file')} {are(number)} left out, of kinds that are not read as images ({shown})",)
