"""A model as a checkpoint that says where it comes from, verified before it takes its name."""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from transfuse.batch import cast
from transfuse.errors import CheckpointError, OutputError
from transfuse.io.checkpoint import load_model, local_directory, with_plain_experts
from transfuse.io.files import copy_companions
from transfuse.io.names import keep_names
from transfuse.io.output import Overwrite, atomic_directory, write_json
from transfuse.io.quiet import quiet
from transfuse.network.model import answer, example_inputs

TOLERANCE = 1e-5  # largest deviation of a reloaded model's outputs, relative to their largest entry


def save_checkpoint(
    target: Path, overwrite: Overwrite, model: PreTrainedModel, inputs: Sequence[str | None], processor: Any,
    document: dict[str, Any], card: str,
) -> Path:  # fmt: skip
    """Write weights, config, processor, model card and `transfuse.json`; verify by reloading; only then rename.

    Args:
        inputs: folders that must not be overwritten; without a `processor`, that of the first one is copied.

    Raises:
        OutputError: `target` is not empty (unless replaced), not writable, an input, or the disk is full.
    """
    with atomic_directory(target, overwrite, [Path(each) for each in inputs if each]) as partial:
        with quiet():
            model.save_pretrained(partial)
        if inputs and inputs[0]:
            keep_names(partial, local_directory(inputs[0], "allow"), model.base_model_prefix)
        if processor is not None:
            processor.save_pretrained(partial)
        elif inputs[0]:
            copy_companions(local_directory(inputs[0], "allow"), partial)
        write_json(partial / "transfuse.json", document)
        (partial / "README.md").write_text(card, encoding="utf-8")
        _verify(model, partial)
    return target


@torch.no_grad()
def _verify(model: PreTrainedModel, directory: Path) -> None:
    """The saved checkpoint loads without a missing or unexpected key and computes the same."""
    try:
        reloaded = load_model(directory)
    except CheckpointError as error:
        raise OutputError(f"the written checkpoint does not load again: {error}") from error
    dtype = torch.promote_types(model.dtype, torch.float32)  # in less, two ways to compute attention differ too much
    models = with_plain_experts(copy.deepcopy(model)), reloaded
    inputs = cast(example_inputs(model.config), dtype)
    expected, found = (answer(each.to("cpu", dtype), inputs).double() for each in models)
    if not (expected - found).abs().max() <= TOLERANCE * expected.abs().max().clamp_min(1):
        raise OutputError(
            f"the written checkpoint computes something else: outputs off by {(expected - found).abs().max()}"
        )
