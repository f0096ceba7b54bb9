"""Kinds of input, each as commands on a damaged one: what every kind makes in an empty folder, by a generator."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random

import yaml
from safetensors.torch import load_file, save_file

from damage.blobs import damage_weights
from damage.datasets import damaged_pictures, damaged_saved, damaged_table
from damage.subjects import Subjects, rows, table
from damage.trees import mutated, spelled, torn

Make = Callable[[Random, Subjects, Path], list[object]]  # the arguments of a command; what it reads lies in the folder
VISION, TEXTS = "ViTForImageClassification", "BertForSequenceClassification"
ODD_SHARDS = (
    "../model.safetensors",
    "/etc/passwd",
    "sub/model.safetensors",
    "",
    ".",
    "..",
    "model.bin",
    "con:x",
    3,
    None,
)


def _fuse(one: Path, other: Path, *more: object) -> list[object]:
    samples = ("--samples", 8) if "--data" in more else ()
    return ["fuse", one, other, "-o", "out", *samples, "--batch-size", 4, *more]


def _with_copy(rng: Random, subjects: Subjects, here: Path, name: str, damage: Callable[[Path], object]) -> list[Path]:
    """The pair of a class, one of them a damaged copy."""
    pair = list(subjects.pairs[name])
    at = rng.randrange(2)
    pair[at] = Path(shutil.copytree(pair[at], here / "given"))
    damage(pair[at])
    return pair


def config(rng: Random, subjects: Subjects, here: Path) -> list[object]:
    """config.json of any family."""

    def damage(copy: Path) -> None:
        path = copy / "config.json"
        path.write_bytes(spelled(rng, mutated(rng, json.loads(path.read_text()))))

    pair = _with_copy(rng, subjects, here, rng.choice(sorted(subjects.pairs)), damage)
    return ["plan", *pair, "--json"] if rng.random() < 0.2 else _fuse(*pair, "--align", rng.choice(("none", "exact")))


def weights(rng: Random, subjects: Subjects, here: Path) -> list[object]:
    """model.safetensors."""
    name = rng.choice(sorted(subjects.pairs))
    pair = _with_copy(rng, subjects, here, name, lambda copy: damage_weights(rng, copy / "model.safetensors"))
    return _fuse(*pair, *rng.choice(((), (), ("--align", "flow"), ("--align", "none"), ("--max-memory", "601MiB"))))


def index(rng: Random, subjects: Subjects, here: Path) -> list[object]:
    """model.safetensors.index.json."""

    def damage(copy: Path) -> None:
        tensors = sorted(load_file(copy / "model.safetensors").items())
        (copy / "model.safetensors").unlink()
        files = {"one.safetensors": dict(tensors[::2]), "two.safetensors": dict(tensors[1::2])}
        places = {name: file for file, held in files.items() for name in held}
        for file, held in files.items():
            save_file(held, copy / file, {"format": "pt"})
        document = {"metadata": {"total_size": 1}, "weight_map": places}
        if rng.random() < 0.4:
            places[rng.choice(sorted(places))] = rng.choice(ODD_SHARDS)
        else:
            document = mutated(rng, document)
        (copy / "model.safetensors.index.json").write_bytes(spelled(rng, document))

    return _fuse(*_with_copy(rng, subjects, here, TEXTS, damage), "--align", "none")


def processor(rng: Random, subjects: Subjects, here: Path) -> list[object]:
    """preprocessor_config.json, as it is read to prepare images."""

    def damage(copy: Path) -> None:
        path = copy / "preprocessor_config.json"
        path.write_bytes(spelled(rng, mutated(rng, json.loads(path.read_text()))))

    pair = _with_copy(rng, subjects, here, VISION, damage)
    more = ("--data", subjects.images)
    return ["eval", *pair, *more, "--json"] if rng.random() < 0.5 else _fuse(*pair, *more, "--merge", "mean")


def tokenizer(rng: Random, subjects: Subjects, here: Path) -> list[object]:
    """Every file of a tokenizer."""

    def damage(copy: Path) -> None:
        found = [path for path in sorted(copy.iterdir()) if path.name.startswith(("tokenizer", "vocab", "special"))]
        path = rng.choice(found)
        text = path.read_bytes()
        tree = json.loads(text) if path.suffix == ".json" else None
        path.write_bytes(torn(rng, text) if tree is None else spelled(rng, mutated(rng, tree)))

    name = rng.choice([name for name in sorted(subjects.pairs) if name != VISION])
    pair = _with_copy(rng, subjects, here, name, damage)
    data = ("--data", table(here, rows()))
    return ["eval", *pair, *data, "--json"] if rng.random() < 0.5 else _fuse(*pair, *data, "--merge", "mean")


def tables(rng: Random, subjects: Subjects, here: Path) -> list[object]:
    """CSV, TSV, JSON, JSON lines, parquet and text files."""
    data = ("--data", damaged_table(rng, here))
    pair = subjects.pairs[TEXTS]
    return ["eval", *pair, *data, "--json"] if rng.random() < 0.6 else _fuse(*pair, *data, "--merge", "mean")


def pictures(rng: Random, subjects: Subjects, here: Path) -> list[object]:
    """Folders of images."""
    data = ("--data", damaged_pictures(rng, subjects.images, here))
    pair = subjects.pairs[VISION]
    return ["eval", *pair, *data, "--json"] if rng.random() < 0.6 else _fuse(*pair, *data, "--merge", "mean")


def saved(rng: Random, subjects: Subjects, here: Path) -> list[object]:
    """What `save_to_disk` wrote."""
    return ["eval", *subjects.pairs[TEXTS], "--data", damaged_saved(rng, here), "--json"]


def job(rng: Random, subjects: Subjects, here: Path) -> list[object]:
    """A job file."""
    document = {
        "models": [str(path) for path in subjects.pairs[VISION]], "output": "out", "align": "flow",
        "flow": {"plan": "hard", "policy": "mean"},
        "match-on": "weights", "weights": [2, 1.0], "seed": 0, "dtype": "float32", "batch-size": 4,
        "overwrite": False,
    }  # fmt: skip
    text = yaml.safe_dump(mutated(rng, document), allow_unicode=True).encode("utf-8", "replace")
    bomb = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"{this}: &{this} [{', '.join([f'*{before}'] * 9)}]\n"
        for before, this in zip("abcdefgh", "bcdefghi", strict=True)
    )
    fate = rng.random()
    text = torn(rng, text) if fate < 0.25 else f"{bomb}models: *i\n".encode() if fate < 0.3 else text
    text = text + rng.choice((b"seed: 1\n", b"? [a]\n: b\n", b"<<: *x\n", b"!!python/object:os.system x\n", b"1: 2\n",
                              b"%YAML 9.9\n", b"---\n", b"\t\n")) if fate > 0.9 else text  # fmt: skip
    (here / "job.yaml").write_bytes(text)
    return ["fuse", "--config", "job.yaml"]


KINDS: dict[str, Make] = {
    "config.json": config, "weights (safetensors)": weights, "index of shards": index, "image processor": processor,
    "tokenizer": tokenizer, "tables": tables, "image folders": pictures, "saved datasets": saved, "job files": job,
}  # fmt: skip
