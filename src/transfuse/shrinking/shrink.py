"""Make a model smaller: fewer blocks, heads, hidden units and experts, and a narrower residual stream."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from tempfile import gettempdir
from typing import Any

from transformers import PreTrainedModel

from transfuse.base.batch import Batch, batch_size
from transfuse.base.cache import NO_STORE, Store
from transfuse.base.distributed import check_one_process
from transfuse.base.folders import cache_folder
from transfuse.base.hashing import tensors_digest, text_digest
from transfuse.base.memory_limit import planned_limit
from transfuse.base.progress import Progress, as_progress, silent
from transfuse.base.timing import Stopwatch
from transfuse.base.torch_settings import own_torch_settings
from transfuse.checkpoint.reading.finite import check_finite, check_range
from transfuse.checkpoint.reading.given_models import check_given, wrapper_advice
from transfuse.checkpoint.reading.load import NO_MODEL, Model, load_empty, load_model, local_directory, model_name
from transfuse.checkpoint.reading.mapped_model import mapped_network
from transfuse.checkpoint.reading.spill import TensorSpill
from transfuse.checkpoint.reading.ties import check_ties
from transfuse.checkpoint.record.origin import Origin, origin, run_facts
from transfuse.config.make import make
from transfuse.config.settings import UNRELATED_OPTIONS, memory_bytes, torch_dtype
from transfuse.config.shrink_options import ShrinkOptions
from transfuse.config.validation import check_read
from transfuse.data.load import data_name, warn_of_test_split
from transfuse.data.processors import loaded_processor
from transfuse.errors import ConfigError
from transfuse.network.families.undeclared import take_undeclared
from transfuse.network.model import Network, network, with_own_config
from transfuse.network.precision import stored_as
from transfuse.network.registry import load_families
from transfuse.network.sizes import Sizes
from transfuse.shrinking.choose_sizes import choose_sizes
from transfuse.shrinking.held_out import split, split_to_fit
from transfuse.shrinking.learn import ProjectedDistillation
from transfuse.shrinking.possible import possible_sizes
from transfuse.shrinking.result import Shrunk
from transfuse.shrinking.samples import read_samples
from transfuse.shrinking.small_model import fitted, size_record
from transfuse.shrinking.streamed import checked_streaming, with_precision


@own_torch_settings()
def shrink(
    model: Model,
    data: Any = None,
    progress: Progress | bool = silent,
    processor: Any = None,
    cache: str | Path | None = None,
    stream: bool | None = None,
    max_memory: int | str | None = None,
    **options: Any,
) -> Shrunk:
    """Make a model smaller.

    Args:
        model: a checkpoint directory, a Hub name or a loaded model, which is not changed.
        data: unlabeled samples: a path, a list of texts, of PIL images or of dicts, a pandas `DataFrame`, a dataset of
            `datasets`, or `Samples`. "generated": texts by the model itself, if it is a causal language model.
        progress: shows progress; True: on the terminal or in the notebook. Silent by default.
        processor: prepares `data` and is saved with the small model; None: the processor in the model's directory.
        cache: a folder for finished work, from which an interrupted run of the same model, samples and options
            continues; None: nothing is kept.
        stream: whether the weights of the model stay in its files, for fewer experts without training on a CPU; None:
            if memory does not hold them.
        max_memory: memory limit, as bytes or "8GB", for which streaming and the size of batches are planned.
        options: fields of `ShrinkOptions`: hidden_size, layers, intermediate_size, heads, kv_heads, experts, or ratio,
            or like; effort, minutes, steps, samples, ...

    Returns:
        The small model; its `save` writes the checkpoint.

    Raises:
        TransfuseError: an input cannot be used, or a size is impossible; the message says what, where and what to do.
    """
    folder = cache_folder(cache)
    with planned_limit(memory_bytes(max_memory)):
        return _shrunk(model, data, as_progress(progress), processor, folder, stream, make(ShrinkOptions, options))


def _shrunk(
    model: Model,
    data: Any,
    progress: Progress,
    processor: Any,
    cache: Path | None,
    stream: bool | None,
    chosen: ShrinkOptions,
) -> Shrunk:
    """Return the small model, within the planned memory."""
    warn_of_test_split(data)
    check_read(chosen.model_dump(exclude_unset=True), data)
    if not isinstance(model, str | Path | PreTrainedModel):
        raise ConfigError(f"model: {NO_MODEL}, not a {type(model).__name__}{wrapper_advice(model)}")
    check_given([model], [model_name(model, "the model")])
    if data is None:
        raise ConfigError(
            "data: shrinking needs samples to measure what matters; give data (for a causal language model,"
            " data='generated' will do)"
        )
    check_one_process("shrinking")
    load_families(chosen.spec)
    watch = Stopwatch()
    empty = model if isinstance(model, PreTrainedModel) else load_empty(model, pickle=chosen.pickle_policy())
    take_undeclared(type(empty).__name__, False)
    possible = possible_sizes(model, empty, chosen)
    spill = None
    streamed = checked_streaming(model, empty, possible, chosen, progress.warn, stream)
    if streamed and not isinstance(model, PreTrainedModel):
        spill = TensorSpill(cache or Path(gettempdir()))
        folder = local_directory(model, chosen.pickle_policy())
        large = replace(mapped_network(folder, empty, spill), name=str(model))
    else:
        large = _loaded(model, chosen)
    processor = loaded_processor(processor, large.model)
    samples, batches = read_samples(large.model, model, data, chosen, processor, progress)
    watch.lap("preparing samples")
    source = origin(model, empty)
    store = _store(cache, source, large, batches, possible, chosen)
    sizes, tried = choose_sizes(large, possible, split(batches), progress, store)
    watch.lap("choosing sizes")
    small, facts = shrunk_model(large, sizes, batches, chosen, progress, watch, store)
    dtype = torch_dtype(chosen.dtype) or empty.dtype
    check_finite(small.state_dict(), "the small model")
    check_range(small.state_dict(), dtype)
    small = stored_as(dtype, small.to("cpu")) if spill is None else with_precision(small, dtype, spill)
    record = {
        "shrunk": source.entry(),
        "options": chosen.model_dump(mode="json"),
        **size_record(empty, sizes),
        **({"tried_sizes": tried} if tried else {}),
        "data": data_name(data),
        "calibration_samples": sum(map(batch_size, batches)),
        **({"calibration_split": samples.split} if samples.split else {}),
        **facts,
        **({"streamed": True} if spill else {}),
        "stages": watch.laps,
        **run_facts(model),
    }
    return Shrunk(small, record, source, processor, samples)


def _loaded(model: Model, options: ShrinkOptions) -> Network:
    """Return a model in memory, after checks of its weights."""
    if isinstance(model, PreTrainedModel):
        loaded = with_own_config(model)
    else:
        loaded = load_model(model, pickle=options.pickle_policy())
    name = model_name(model, "the model")
    check_finite(loaded.state_dict(), name)
    check_ties(loaded, name)
    return network(loaded, options.torch_device(), name)


def _store(
    cache: Path | None,
    source: Origin,
    large: Network,
    batches: Sequence[Batch],
    possible: Sequence[Sequence[Sizes]],
    options: ShrinkOptions,
) -> Store:
    """Return the part of a cache that belongs to a model, samples, sizes and options."""
    if cache is None:
        return NO_STORE
    return Store(cache).of(
        shrunk=[source.architecture, *sorted(source.sha256.values()), text_digest(repr(large.spec))],
        data=[tensors_digest(batch) for batch in batches],
        sizes=[[sizes.given() for sizes in series] for series in possible],
        options=options.model_dump(mode="json", exclude=UNRELATED_OPTIONS),
        transfuse=version("transfuse"),
    )


def shrunk_model(
    large: Network,
    sizes: Sizes,
    batches: Sequence[Batch],
    options: ShrinkOptions,
    progress: Progress,
    watch: Stopwatch,
    store: Store = NO_STORE,
) -> tuple[PreTrainedModel, dict[str, Any]]:
    """Return the small model, and facts for the record.

    Args:
        store: cache of all that is chosen and fitted, and of the state of the training.

    Raises:
        DataError: there are fewer than two samples.
    """
    learning = options.learning()
    parts = split_to_fit(batches, learning.trains)
    small, projection, facts = fitted(large, sizes, parts, progress, store)
    watch.lap("fitting layers")
    if learning.trains:
        loop = ProjectedDistillation(small, projection, split(batches), learning, options.seed)
        state = store.file("weights.pt")
        facts["learned_weights"] = asdict(loop.run("weights", state, progress.track))
        watch.lap("training")
    return small, facts
