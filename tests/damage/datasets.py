"""Samples damaged at random: tables, folders of images, saved datasets."""

import json
import shutil
from pathlib import Path
from random import Random
from typing import Any

import datasets
import pandas
from PIL import Image

from damage.subjects import rows
from damage.trees import ODD, mutated, torn

MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I", "F", "I;16")
SHAPES = ((1, 1), (1, 12), (12, 1), (300, 2), (11, 13))
NAMES = ("label.png", "..png", "é\u202e.png", "a b.PNG", "x\ny.png", "-o.png", "test.png", "<b>.png", "%s.png", "*.png")


def damaged_table(rng: Random, here: Path) -> Path:
    """A table of labelled texts in any format, its values or its bytes damaged."""
    found: Any = rows()
    if rng.random() < 0.8:
        found = mutated(rng, found)
    elif rng.random() < 0.5:
        column = rng.choice(("text", "label"))
        found = [{**row, column: rng.choice(ODD)} for row in found]
    suffix = rng.choice(("csv", "tsv", "json", "jsonl", "parquet", "txt"))
    path = here / f"given.{suffix}"
    try:
        data = _spelled(found, suffix, path)
    except Exception:  # rows that the format does not have
        data = json.dumps(found).encode()
    path.write_bytes(torn(rng, data) if rng.random() < 0.3 else data)
    return path


def _spelled(found: Any, suffix: str, path: Path) -> bytes:
    if suffix == "json":
        return json.dumps(found).encode()
    if suffix in ("jsonl", "txt"):
        return "\n".join(json.dumps(row) for row in found).encode()
    frame = pandas.DataFrame(found)
    if suffix == "parquet":
        frame.to_parquet(path)
        return path.read_bytes()
    return frame.to_csv(index=False, sep="," if suffix == "csv" else "\t").encode("utf-8", "replace")


def damaged_pictures(rng: Random, images: Path, here: Path) -> Path:
    """A folder of images, a file or two of it damaged, odd, misplaced or superfluous."""
    folder = Path(shutil.copytree(images, here / "given"))
    for _ in range(rng.choice((1, 2))):
        file = rng.choice([path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink()])
        rng.choice((_torn, _torn, _mode, _mode, _shape, _rename, _extra, _metadata, _link))(rng, file, folder)
    return folder


def _torn(rng: Random, file: Path, folder: Path) -> None:
    file.write_bytes(torn(rng, file.read_bytes()))


def _mode(rng: Random, file: Path, folder: Path) -> None:
    mode, suffix = rng.choice(MODES), rng.choice((".png", ".tiff", ".webp", ".gif", ".bmp", ".ppm", ".jpg"))
    try:
        Image.new(mode, (12, 12)).save(file.with_suffix(suffix))
    except (OSError, ValueError):  # a format without such pixels
        Image.new("RGB", (12, 12)).save(file.with_suffix(suffix), format="PNG")


def _shape(rng: Random, file: Path, folder: Path) -> None:
    Image.new("L", rng.choice(SHAPES)).save(file)


def _rename(rng: Random, file: Path, folder: Path) -> None:
    file.rename(rng.choice((file.parent, folder)) / rng.choice(NAMES))


def _extra(rng: Random, file: Path, folder: Path) -> None:
    name = rng.choice(("state.json", "dataset_dict.json", "x.csv", "x.txt", "x.parquet", "train/x.png", "x.jsonl"))
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(torn(rng, b'{"a": 1}\n'))


def _metadata(rng: Random, file: Path, folder: Path) -> None:
    lines = [{"file_name": str(path.relative_to(folder)), "label": 0} for path in sorted(folder.rglob("*.*"))]
    lines = mutated(rng, lines)
    written = lines if isinstance(lines, list) else [lines]
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, written)), encoding="utf-8")


def _link(rng: Random, file: Path, folder: Path) -> None:
    file.unlink()
    file.symlink_to(rng.choice(("nowhere", ".", "/dev/null", file.name)))


def damaged_saved(rng: Random, here: Path) -> Path:
    """A saved dataset, or several splits of one, a file of it damaged."""
    folder, found = here / "given", datasets.Dataset.from_list(rows())
    (datasets.DatasetDict(train=found, test=found) if rng.random() < 0.5 else found).save_to_disk(folder)
    file = rng.choice([path for path in sorted(folder.rglob("*")) if path.is_file()])
    if file.suffix == ".json" and rng.random() < 0.7:
        file.write_text(json.dumps(mutated(rng, json.loads(file.read_text()))), encoding="utf-8")
    elif rng.random() < 0.2:
        file.unlink()
    else:
        file.write_bytes(torn(rng, file.read_bytes()))
    return folder
