"""Safetensors files damaged at random: the length of the header, the header, the numbers."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from damage.trees import mutated, spelled, torn

PETABYTE = 2**50


def parts(file: Path) -> tuple[dict[str, Any], bytes]:
    """The header of a safetensors file and what follows it."""
    data = file.read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    return json.loads(data[8:end]), data[end:]


def joined(header: bytes, rest: bytes, length: int | None = None) -> bytes:
    """A safetensors file; `length`: what it says of its header."""
    return (len(header) if length is None else length).to_bytes(8, "little") + header + rest


def damage_weights(rng: Random, file: Path) -> None:
    """One of all ways to damage a file of weights."""
    rng.choice((_header, _header, _claim, _length, _bytes, _values, _names))(rng, file)


def _header(rng: Random, file: Path) -> None:
    header, rest = parts(file)
    file.write_bytes(joined(spelled(rng, mutated(rng, header)), rest))


def _claim(rng: Random, file: Path) -> None:
    """A tensor that would take petabytes, or whose numbers lie elsewhere."""
    header, rest = parts(file)
    entry = header[rng.choice([name for name in header if name != "__metadata__"])]
    start, end = entry["data_offsets"]
    entry.update(rng.choice((
        {"shape": [PETABYTE, 4], "data_offsets": [start, start + 16 * PETABYTE]}, {"shape": [2**40, 2**40]},
        {"data_offsets": [start, 2**64]}, {"data_offsets": [end, start]}, {"data_offsets": [0, end - start]},
        {"dtype": rng.choice(("F8_E4M3", "I64", "BOOL", "F64", "C64", "F4", "U8", "", "float"))},
        {"shape": [*entry["shape"], 1]}, {"shape": [math.prod(entry["shape"])]},
        {"shape": list(reversed(entry["shape"]))},
    )))  # fmt: skip
    file.write_bytes(joined(json.dumps(header).encode(), rest))


def _length(rng: Random, file: Path) -> None:
    header, rest = parts(file)
    text = json.dumps(header).encode()
    told = rng.choice((0, 1, 2, len(text) - 1, len(text) + 1, len(text) + len(rest) + 1, PETABYTE, 2**64 - 1))
    file.write_bytes(joined(text, rest, told))


def _bytes(rng: Random, file: Path) -> None:
    file.write_bytes(torn(rng, file.read_bytes()))


def _values(rng: Random, file: Path) -> None:
    """Numbers that no model should have, or that say nothing."""
    tensors = load_file(file)
    name = rng.choice(sorted(tensors))
    values = tensors[name].flatten()
    odd = rng.choice((math.nan, math.inf, -math.inf, 0.0, 0.0, 1.0, 1e-40, 1e19, -1e38))
    if rng.random() < 0.5:
        values.fill_(odd)
    else:
        values[rng.randrange(len(values))] = odd
    save_file(tensors, file, {"format": "pt"})


def _names(rng: Random, file: Path) -> None:
    """Tensors that are missing, superfluous, swapped, of another shape or precision."""
    tensors = load_file(file)
    one, other = rng.sample(sorted(tensors), 2)
    changes: tuple[Callable[[], Any], ...] = (
        lambda: tensors.pop(one),
        lambda: tensors.update({rng.choice(("x", "", "../x", "\x1b[2J", "a\nb", "é" * 300)): torch.zeros(2)}),
        lambda: tensors.update({one: tensors[other].clone(), other: tensors[one].clone()}),
        lambda: tensors.update({one: tensors[one].to(rng.choice((torch.float16, torch.bfloat16, torch.float64)))}),
        lambda: tensors.update({one: tensors[one].to(rng.choice((torch.int64, torch.bool, torch.uint8)))}),
        lambda: tensors.update({one: torch.zeros(0)}),
        lambda: tensors.update({one: tensors[one][:-1].clone()}),
    )
    rng.choice(changes)()
    save_file(tensors, file, {"format": "pt"})
