"""A model as a checkpoint that says where it comes from, verified before it takes its name."""

import copy
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from transfuse.base.batch import cast
from transfuse.base.libraries import quiet
from transfuse.checkpoint.companions import RECORD
from transfuse.checkpoint.files import copy_companions
from transfuse.checkpoint.leftovers import drop_code_references
from transfuse.checkpoint.legacy_config import add_legacy_keys
from transfuse.checkpoint.load import load_model, local_directory, with_eager_experts
from transfuse.checkpoint.output import Overwrite, atomic_directory, write_json
from transfuse.checkpoint.sentences import copy_sentence_files
from transfuse.checkpoint.tensor_names import keep_tensor_names
from transfuse.errors import CheckpointError, OutputError
from transfuse.network.inputs import example_inputs
from transfuse.network.outputs import model_output
from transfuse.network.precision import as_dtype

TOLERANCE = 1e-5  # largest deviation of a reloaded model's outputs, relative to their largest entry


Writer = Callable[[Path], None]  # weights and config into a folder, verified


def save_checkpoint(
    target: Path,
    overwrite: Overwrite,
    write: Writer,
    inputs: Sequence[str | None],
    processor: Any,
    document: dict[str, Any],
    texts: Mapping[str, str],
    kept: Sequence[str] = (),
) -> Path:
    """Write weights, config, processor, `transfuse.json` and texts; only then give the folder its name.

    Args:
        write: writes the weights and the configuration.
        texts: further files, by name: the model card, a report.
        inputs: folders that must not be overwritten; without a `processor`, that of the first one is copied.
        kept: what else must not be overwritten, as `data` of the document must not.

    Raises:
        OutputError: `target` is not empty (unless replaced), not writable, an input, or the disk is full.
    """
    data = document.get("data")
    used = [data] if isinstance(data, str) and Path(data).expanduser().exists() else []
    with atomic_directory(target, overwrite, [Path(each) for each in (*inputs, *kept, *used) if each]) as folder:
        write(folder)
        anchor = local_directory(inputs[0], "allow") if inputs[0] else None
        if processor is not None:
            processor.save_pretrained(folder)
        elif anchor is not None:
            copy_companions(anchor, folder)
        if anchor is not None:
            copy_sentence_files(anchor, folder)
        drop_code_references(folder)
        write_json(folder / RECORD, document)
        for name, text in texts.items():
            (folder / name).write_text(text, encoding="utf-8")
    return target


def model_writer(model: PreTrainedModel, named_as: str | None) -> Writer:
    """Writes a loaded model, its tensors named as in another checkpoint, and verifies it by reloading.

    Raises `OutputError`, when it writes, if what it wrote does not compute the same.
    """
    return partial(_write, model, named_as)


def _write(model: PreTrainedModel, named_as: str | None, folder: Path) -> None:
    with quiet():
        _save_pretrained(model, folder)
    if named_as:
        keep_tensor_names(folder, local_directory(named_as, "allow"), model.base_model_prefix)
    add_legacy_keys(folder)
    _verify(model, folder)


def _save_pretrained(model: PreTrainedModel, folder: Path) -> None:
    """Save a model, its generation settings too where transformers takes them for a mistake and refuses to save."""
    try:
        model.save_pretrained(folder)
    except ValueError:
        if not model.can_generate():
            raise
        settings = model.generation_config
        model.generation_config = type(settings)()
        try:
            model.save_pretrained(folder)
        finally:
            model.generation_config = settings
        save_generation(model, folder)


def save_generation(model: PreTrainedModel, folder: Path) -> None:
    """Writer generation_config.json of a model that generates, as save_pretrained does, whatever its values are."""
    if not model.can_generate():
        return
    try:
        with quiet():
            model.generation_config.save_pretrained(folder)
    except ValueError:
        model.generation_config.to_json_file(folder / "generation_config.json")


@torch.no_grad()
def _verify(model: PreTrainedModel, directory: Path) -> None:
    """The saved checkpoint loads without a missing or unexpected key and computes the same."""
    try:
        reloaded = load_model(directory)
    except CheckpointError as error:
        raise OutputError(f"the written checkpoint does not load again: {error}") from error
    dtype = torch.promote_types(model.dtype, torch.float32)  # in less, two ways to compute attention differ too much
    same = {id(each): nn.Parameter(each.detach(), requires_grad=False) for each in model.parameters()}
    models = with_eager_experts(copy.deepcopy(model, same)), reloaded
    inputs = cast(example_inputs(model.config), dtype)
    expected, found = (model_output(as_dtype(each, dtype).to("cpu"), inputs).double() for each in models)
    if not (expected - found).abs().max() <= TOLERANCE * expected.abs().max().clamp_min(1):
        raise OutputError(
            f"the written checkpoint computes something else: outputs off by {(expected - found).abs().max()}"
        )
