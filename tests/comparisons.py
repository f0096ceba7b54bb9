"""Weights compared bit for bit, in files and in memory, and outputs compared up to a tolerance."""

from pathlib import Path
from typing import Protocol

import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import PreTrainedModel

from transfuse.checkpoint.reading.files import weight_files


class Result(Protocol):
    """A fusion, a smaller model or a fine-tuned model."""

    model: PreTrainedModel


def stored(folder: Path) -> dict[str, Tensor]:
    """Return all tensors of a checkpoint."""
    return {name: values for file in weight_files(folder) for name, values in load_file(file).items()}


def same_files(first: Path, second: Path) -> bool:
    """Tell whether two checkpoints hold equal tensors in equal precisions."""
    one, two = stored(first), stored(second)
    return one.keys() == two.keys() and all(
        torch.equal(one[name], two[name]) and one[name].dtype == two[name].dtype for name in one
    )


def same_models(first: Result, second: Result) -> bool:
    """Tell whether two results hold equal tensors."""
    one, two = first.model.state_dict(), second.model.state_dict()
    return one.keys() == two.keys() and all(torch.equal(values, two[name]) for name, values in one.items())


def close(found: Tensor, expected: Tensor, tolerance: float) -> bool:
    """Tell whether the largest difference is below a share of the largest expected number."""
    return float((found - expected).abs().max()) < tolerance * float(expected.abs().max())
