"""Fusing checkpoints that need not fit into memory: tensors are read as they are needed and written as they are made.

The same alignments and the same mean as in memory, number for number, of models that are mappings from names to files.
What is in memory at a time is a few tensors, and the maps.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from transfuse.alignment.interface import AlignContext, Alignment, aligned_weights
from transfuse.base.cache import Store
from transfuse.base.distributed import process_group
from transfuse.base.lazy import Lazy, as_needed
from transfuse.base.progress import Progress, silent
from transfuse.checkpoint.card import model_card
from transfuse.checkpoint.finite import check_finite
from transfuse.checkpoint.lazy_tensors import TensorLocation, read_lazily, tensor_locations
from transfuse.checkpoint.legacy_config import add_legacy_keys
from transfuse.checkpoint.load import load_empty, local_directory
from transfuse.checkpoint.output import Overwrite, check_target
from transfuse.checkpoint.safetensors_writer import write_shards
from transfuse.checkpoint.save import save_checkpoint, save_generation
from transfuse.checkpoint.sentences import check_sentences
from transfuse.config.options import Options, make
from transfuse.errors import CheckpointError, ConfigError, OutputError
from transfuse.fusion.cache_keys import cache_keys
from transfuse.fusion.match import align, check_alike
from transfuse.fusion.record import describe, origin
from transfuse.fusion.vocabulary import rows_of_words
from transfuse.merging.mean import mean
from transfuse.network.layout import join_fused, split_fused, unfused
from transfuse.network.model import Network, computed_in, declaration, multiplied_in
from transfuse.network.registry import load_families
from transfuse.network.spec import Spec

Describe = Callable[[Spec, Sequence[Alignment], dict[str, Any]], dict[str, str]]


def nothing(spec: Spec, alignments: Sequence[Alignment], record: dict[str, Any]) -> dict[str, str]:
    """No further files."""
    return {}


def streamable(paths: Sequence[str], models: Sequence[PreTrainedModel], options: Options, data: bool) -> bool:
    """Whether models can be fused without being loaded: by weights alone, into a mean, word by word the same.

    Args:
        models: without data.
    """
    if data or options.align == "learned" or options.vocab != "same":
        return False
    pairs = zip(paths, models, strict=True)
    return all(tensor_locations(local_directory(path, "allow"), model) is not None for path, model in pairs)


def stream(
    models: Sequence[str | Path],
    target: str | Path,
    overwrite: Overwrite = "refuse",
    progress: Progress = silent,
    cache: str | Path | None = None,
    describe_also: Describe = nothing,
    **options: Any,
) -> dict[str, Any]:
    """Fuse checkpoints by their weights, tensor by tensor, and write the result.

    Args:
        models: directories of safetensors checkpoints; the first is the anchor, whose names and files the output has.
        cache: where maps are kept that memory does not hold, and that another run may take; None: a folder beside the
            output, for as long as this run takes.
        describe_also: makes further files of the anchor's declaration, the alignments and the record.
        options: fields of `Options`.

    Returns:
        What `transfuse.json` holds.

    Raises:
        TransfuseError: an input that cannot be fused so, or an output that cannot be written.
    """
    start, chosen = time.perf_counter(), make(Options, options)
    chosen.check_data(False, {})
    weights = chosen.normalised_weights(len(models))
    if len(models) < 2:
        raise ConfigError("models: fusing needs at least two")
    load_families(chosen.spec)
    check_sentences(models)
    folders, names = [local_directory(each, "allow") for each in models], [str(each) for each in models]
    empty = [load_empty(each) for each in models]
    rows_of_words(models, empty, "same")
    check_alike(empty, names)
    device = chosen.torch_device()
    networks = [stored_network(folder, model, device) for folder, model in zip(folders, empty, strict=True)]
    choices = AlignContext("weights", (), chosen.paper(), chosen.groups)
    origins = [origin(given, model) for given, model in zip(models, empty, strict=True)]
    target, specs = check_target(Path(target), overwrite, folders), [each.spec for each in networks]
    with _room(target, cache) as store:
        alignments, _ = align(
            networks, weights, choices, chosen, (), progress, cache_keys(store, origins, specs, chosen, ())
        )
        fused = join_fused(declaration(empty[0]), mean(aligned_weights(alignments), weights))
        seconds = {"seconds": round(time.perf_counter() - start, 2), "streamed": True}
        record = describe(origins, chosen, weights, choices, None, alignments) | seconds
        write = partial(_write, empty[0], folders[0], fused, chosen.torch_dtype() or empty[0].dtype, progress)
        if process_group().first:
            texts = {"README.md": model_card(target.name, record)} | describe_also(specs[0], alignments, record)
            save_checkpoint(target, overwrite, write, names, None, record, texts)
        process_group().barrier()
    return record


@contextmanager
def _room(target: Path, cache: str | Path | None) -> Iterator[Store]:
    """A store for maps on disk."""
    if cache is not None:
        yield Store(Path(cache), spill=True)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{target.name}.maps-", dir=target.parent) as folder:
        yield Store(Path(process_group().all_gather(folder)[0]), spill=True)
        process_group().barrier()


def stored_network(folder: Path, model: PreTrainedModel, device: torch.device) -> Network:
    """A checkpoint ready for alignment whose tensors stay in its files. Raises `CheckpointError` where they cannot."""
    where = tensor_locations(folder, model)
    if where is None:
        raise CheckpointError(f"{folder}: its tensors are not stored one by one as safetensors; it can only be loaded")
    spec = declaration(model)
    tensors = read_lazily(where, model, device, computed_in(model.dtype), str(folder))
    products, given = multiplied_in(model.dtype), split_fused(spec, tensors)
    return Network(model, unfused(spec), given, products, as_needed, str(folder), model.dtype)


def _write(
    model: PreTrainedModel, anchor: Path, fused: Lazy, dtype: torch.dtype, progress: Progress, folder: Path
) -> None:
    """The weights under the names and in the files of the anchor, and the configuration."""
    where = tensor_locations(anchor, model) or {}
    named = {place.name: name for name, place in where.items()}
    shards: dict[str, dict[str, tuple[int, ...]]] = {}
    for place in where.values():
        shards.setdefault(place.file.name, {})[place.name] = place.shape
    ticks = iter(progress.track(range(len(named)), "writing"))

    def make(stored: str) -> Tensor:
        values = fused[named[stored]].to(dtype)
        check_finite({named[stored]: values}, "the fused model")
        next(ticks, None)
        return values

    write_shards(folder, shards, dtype, make)
    next(ticks, None)
    model.config.dtype = dtype
    model.config.save_pretrained(folder)
    add_legacy_keys(folder)
    save_generation(model, folder)
    _verify(where, folder)


def _verify(where: dict[str, TensorLocation], folder: Path) -> None:
    """The files hold what the configuration asks for, tensor by tensor."""
    try:
        found = tensor_locations(folder, load_empty(folder)) or {}
    except CheckpointError as error:
        raise OutputError(f"the written checkpoint does not load again: {error}") from error
    if any(found[name].shape != place.shape for name, place in where.items()):
        raise OutputError("the written checkpoint has other shapes than the anchor")
