"""Saving a model as a checkpoint with a record of its inputs, verified before the folder gets its name."""

import copy
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from transfuse.base.batch import Batch, cast
from transfuse.base.folders import expanded
from transfuse.base.libraries import quiet
from transfuse.checkpoint.reading.companions import RECORD, is_of_processor
from transfuse.checkpoint.reading.files import copy_files
from transfuse.checkpoint.reading.load import load_model, local_directory, with_eager_experts
from transfuse.checkpoint.record.copied_files import CopiedFiles, model_files
from transfuse.checkpoint.record.leftovers import drop_code_references
from transfuse.checkpoint.writing.legacy_config import add_legacy_keys
from transfuse.checkpoint.writing.output import Overwrite, atomic_directory, write_json
from transfuse.checkpoint.writing.tensor_names import keep_tensor_names
from transfuse.errors import CheckpointError, OutputError
from transfuse.network.inputs import model_inputs
from transfuse.network.model import has_declaration
from transfuse.network.outputs import model_output
from transfuse.network.precision import as_dtype

TOLERANCE = 1e-5  # largest deviation of a reloaded model's outputs, relative to their largest entry

Writer = Callable[[Path], None]
"""A function that writes weights and configuration to a folder and verifies them."""


def save_checkpoint(
    target: Path,
    overwrite: Overwrite,
    write: Writer,
    inputs: Sequence[str | None],
    processor: Any,
    document: dict[str, Any],
    texts: Mapping[str, str],
    protected: Sequence[str] = (),
    files: CopiedFiles | None = None,
) -> Path:
    """Write a checkpoint to a hidden folder that becomes `target` when it is complete, and return `target`.

    Args:
        write: writes the weights and the configuration.
        inputs: folders that must not be overwritten, None for models passed in memory. The first is the anchor.
        processor: image processor or tokenizer to save instead of the copied one.
        document: content of `transfuse.json`; a path under `data` must not be overwritten either.
        texts: content of further files by name, such as the model card and a report.
        protected: further folders that must not be overwritten.
        files: the files to copy; None: those of the anchor.

    Raises:
        OutputError: `target` is not empty (unless replaced), not writable, an input, or the disk is full.
    """
    data = document.get("data")
    sources = [data] if isinstance(data, str) and expanded(data).exists() else []
    paths = [Path(path) for path in (*inputs, *protected, *sources) if path]
    with atomic_directory(target, overwrite, paths) as folder:
        write(folder)
        files = files or model_files(inputs[0])
        if processor is not None:
            processor.save_pretrained(folder)
        copied = files.companions.items()
        copy_files({name: source for name, source in copied if processor is None or not is_of_processor(name)}, folder)
        copy_files(files.sentences, folder)
        drop_code_references(folder)
        write_json(folder / RECORD, document)
        for name, text in texts.items():
            (folder / name).write_text(text, encoding="utf-8")
    return target


def model_writer(model: PreTrainedModel, named_as: str | None) -> Writer:
    """Return a function that writes a loaded model to a folder and verifies it by loading it again.

    Args:
        named_as: checkpoint whose files name the tensors; None for the names of transformers.

    Raises:
        OutputError: when the function is called, if the written model does not compute the same outputs.
    """
    return partial(_write_model, model, named_as)


def _write_model(model: PreTrainedModel, named_as: str | None, folder: Path) -> None:
    with quiet():
        _save_pretrained(model, folder)
    if named_as:
        keep_tensor_names(folder, local_directory(named_as, "allow"), model.base_model_prefix)
    add_legacy_keys(folder)
    _verify(model, folder)


def _save_pretrained(model: PreTrainedModel, folder: Path) -> None:
    """Save a model with its generation settings, even if transformers refuses to save them as a mistake."""
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
    """Write generation_config.json of a model that generates, whatever values it holds."""
    if not model.can_generate():
        return
    try:
        with quiet():
            model.generation_config.save_pretrained(folder)
    except ValueError:
        model.generation_config.to_json_file(folder / "generation_config.json")


def _verify(model: PreTrainedModel, directory: Path) -> None:
    """Check that the saved checkpoint loads without missing or unexpected tensors and computes the same outputs.

    Raises:
        OutputError: it does not.
    """
    try:
        written = load_model(directory)
    except CheckpointError as error:
        raise OutputError(f"the written checkpoint does not load again: {error}") from error
    if not has_declaration(model):  # which inputs it takes is not known
        _compare_tensors(model.state_dict(), written.state_dict())
        return
    dtype = torch.promote_types(model.dtype, torch.float32)  # at lower precision, attention kernels differ too much
    inputs = cast(model_inputs(model), dtype)
    actual = _outputs(written, dtype, inputs)
    shared = {id(values): nn.Parameter(values.detach(), requires_grad=False) for values in model.parameters()}
    expected = _outputs(with_eager_experts(copy.deepcopy(model, shared)), dtype, inputs)
    deviation = (expected - actual).abs().max()
    if not deviation <= TOLERANCE * expected.abs().max().clamp_min(1):
        raise OutputError(f"the written checkpoint computes something else: outputs off by {deviation}")


def _compare_tensors(expected: Mapping[str, Tensor], actual: Mapping[str, Tensor]) -> None:
    """Raise `OutputError` unless a checkpoint that was read again has the same tensors."""
    different = [name for name, values in expected.items() if not torch.equal(values.cpu(), actual[name].cpu())]
    if different:
        raise OutputError(f"the written checkpoint has another {different[0]}")


@torch.no_grad()
def _outputs(model: PreTrainedModel, dtype: torch.dtype, inputs: Batch) -> Tensor:
    """Return the outputs of a model that is converted in place, and that no one else needs."""
    return model_output(as_dtype(model, dtype).to("cpu"), inputs).double()
