"""Check that checkpoints exist, can be read and have a supported architecture; load models that are measured."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import transformers
from transformers import PreTrainedConfig

from transfuse.alignment.interface import AlignContext
from transfuse.base.batch import Batch
from transfuse.base.progress import Progress
from transfuse.checkpoint.reading.checkpoint_class import checkpoint_class
from transfuse.checkpoint.reading.config_file import read_config
from transfuse.checkpoint.reading.files import stored_dtypes, weight_files
from transfuse.checkpoint.reading.load import local_directory
from transfuse.checkpoint.reading.sentences import check_sentence_modules
from transfuse.config.options import Options
from transfuse.config.settings import Settings
from transfuse.data.files.splits import CALIBRATION
from transfuse.data.load import open_samples
from transfuse.data.measured_tasks import check_trainable
from transfuse.errors import ConfigError, SpecError
from transfuse.evaluation.samples import MeasuredSamples, measured_samples
from transfuse.fusion.calibration import calibrate
from transfuse.fusion.models.anchor_settings import warn_of_settings
from transfuse.fusion.models.compatible import (
    borrowed_by_sources,
    check_same_class,
    checked_networks,
    load,
    with_anchor_form,
)
from transfuse.fusion.models.equal_classes import in_one_family
from transfuse.fusion.models.vocabulary import token_rows
from transfuse.fusion.other_processors import warned_of_processors
from transfuse.fusion.sizes.anchor_sizes import with_anchor_sizes
from transfuse.fusion.sizes.changes import OTHER_SIZES, changeable_sizes
from transfuse.fusion.sizes.samples import SizeSamples
from transfuse.network.class_order import warn_of_order
from transfuse.network.families import FAMILIES, declare
from transfuse.network.families.undeclared import UNALIGNED, take_undeclared
from transfuse.network.model import Network
from transfuse.network.registry import load_families
from transfuse.network.token_ids import copy_padding_token


def check_checkpoints(
    models: Sequence[str], options: Settings, accept: Callable[[PreTrainedConfig, str], None]
) -> list[str]:
    """Check every checkpoint before its weights are read.

    Args:
        accept: takes the configuration and the class name of a model; raises `SpecError` if it is not supported.

    Returns:
        The class name of each model.

    Raises:
        TransfuseError: a checkpoint is missing, has no weights that may be read, or is not supported.
    """
    load_families(options.spec)
    pickle = options.pickle_policy()
    architectures: list[str] = []
    for name in models:
        directory = local_directory(name, pickle)
        config = read_config(directory)
        files = weight_files(directory, pickle)
        if accept is check_fusible:
            check_sentence_modules([name])
        try:
            architectures.append(_architecture(config, directory, files))
            has_base = getattr(options, "base", None) is not None
            take_undeclared(architectures[-1], isinstance(options, Options) and options.needs_no_declaration(has_base))
            accept(config, architectures[-1])
        except SpecError as error:
            raise SpecError(f"{name}: {error}") from error
    return architectures


def _architecture(config: PreTrainedConfig, folder: Path, files: Sequence[Path]) -> str:
    """Return the name of the class of a model. Raise `SpecError` if the configuration is invalid."""
    names = config.architectures or []
    if not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
        raise SpecError(f"architectures in config.json is {names!r}; it should be a list of names")
    if names and names[0] not in FAMILIES and not hasattr(transformers, names[0]):
        return names[0]  # a class that cannot be loaded; the message on classes that are not supported says more
    stored = (name for file in files for name in stored_dtypes(file))
    return checkpoint_class(config, folder, stored).__name__


def check_fusible(config: PreTrainedConfig, architecture: str) -> None:
    """Raise `SpecError` unless there is a declaration for the architecture, and say which commands need none."""
    if architecture in FAMILIES or architecture in UNALIGNED:
        return
    try:
        declare(config, architecture)
    except SpecError as error:
        known = getattr(transformers, architecture, None)
        if getattr(known, "main_input_name", None) not in ("input_ids", "pixel_values"):  # it takes sound, for example
            raise
        try:
            check_trainable(config, architecture)
        except SpecError:
            raise error from None
        raise SpecError(f"{error}. `transfuse eval` and `transfuse finetune` take this model as it is") from None


@dataclass(frozen=True)
class Loaded:
    """Hold models that are measured, and what their alignment and measurement need.

    Attributes:
        networks: the models, the first one first.
        borrowed: for each further model, its tensors that are the first one's, because its head is not read.
        batches: the samples to measure on.
        context: the context of the alignment, with the calibration samples.
        samples: how to measure.
    """

    networks: list[Network]
    borrowed: list[frozenset[str]]
    batches: list[Batch]
    context: AlignContext
    samples: MeasuredSamples


def check_mapped_sizes(models: Sequence[str], options: Settings) -> None:
    """Raise `ConfigError` if two checkpoints, between which maps are to lead, have different sizes."""
    configs = [read_config(local_directory(name, options.pickle_policy())) for name in models]
    first, second = (changeable_sizes(config, widths=True) for config in configs)
    if first != second:
        raise ConfigError(OTHER_SIZES)


def load_for_measurement(
    models: Sequence[str], data: str, limit: int | None, options: Options, progress: Progress
) -> Loaded:
    """Load compatible models, the samples to measure them on, and the context of their alignment.

    Args:
        limit: the number of samples to measure on; None: all.
        progress: is told about classes that were reordered, processors that differ, and contexts that were cut.

    Raises:
        TransfuseError: a model or the data cannot be read, or the models are not compatible.
    """
    options.torch_device()
    architecture, *_ = check_checkpoints(models, options, check_fusible)
    config = read_config(local_directory(models[0], options.pickle_policy()))
    samples = measured_samples(data, options, architecture, config).take(limit, options.seed)
    calibration = open_samples(data, options, CALIBRATION)
    loaded = in_one_family([load(name, options) for name in models], models)
    check_same_class(loaded, models, options)
    size_samples = SizeSamples(models, calibration, options, progress=progress, removes_units=False)
    loaded = with_anchor_sizes(loaded, models, size_samples, progress.warn, options.needs_equal_widths)
    token_rows(models, loaded, "same")
    warn_of_settings(loaded, models, options, progress)
    for name, source in zip(models[1:], loaded[1:], strict=True):
        warn_of_order(loaded[0].config, source, name, progress)
    networks = checked_networks(with_anchor_form(loaded, models, options), models, options)
    warned_of_processors(models, loaded[0], options, progress, data=calibration)
    batches = list(samples.batches(loaded[0], models[0], options, progress=progress))
    copy_padding_token(loaded[0], [network.model for network in networks])
    context = calibrate(networks, models[0], calibration, options, progress=progress)
    return Loaded(networks, borrowed_by_sources(loaded, options), batches, context, samples)
