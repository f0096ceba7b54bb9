"""What every command does first: see that checkpoints are there, readable, and of a kind it takes."""

from collections.abc import Callable, Sequence

from transformers import PreTrainedConfig

from transfuse.alignment.interface import AlignContext
from transfuse.base.batch import Batch
from transfuse.checkpoint.config_file import read_config
from transfuse.checkpoint.files import weight_files
from transfuse.checkpoint.load import local_directory
from transfuse.checkpoint.sentences import check_sentence_modules
from transfuse.config.options import Options, Settings
from transfuse.data.samples import load_samples
from transfuse.data.splits import CALIBRATION
from transfuse.data.tasks import task
from transfuse.errors import SpecError
from transfuse.evaluation.models import labeled_batches
from transfuse.fusion.calibration import calibrate
from transfuse.fusion.inputs import checked_networks, load
from transfuse.fusion.vocabulary import token_rows
from transfuse.network.families import FAMILIES, declare
from transfuse.network.model import Network
from transfuse.network.registry import load_families


def check_checkpoints(
    models: Sequence[str], options: Settings, accept: Callable[[PreTrainedConfig, str], None]
) -> list[str]:
    """Every checkpoint is there, with weights that may be read, and of an architecture that `accept` lets pass.

    Returns the names of their classes.
    """
    load_families(options.spec)
    pickle, found = options.pickle_policy(), []
    for name in models:
        directory = local_directory(name, pickle)
        config = read_config(directory)
        weight_files(directory, pickle)
        if accept is check_fusible:
            check_sentence_modules([directory])
        try:
            accept(config, _architecture(config))
            found.append(_architecture(config))
        except SpecError as error:
            raise SpecError(f"{name}: {error}") from error
    return found


def _architecture(config: PreTrainedConfig) -> str:
    names = config.architectures or ["a model without a head"]
    if not (isinstance(names, list) and isinstance(names[0], str)):
        raise SpecError(f"architectures in config.json should be a list of names, not {names!r}")
    return names[0]


def check_fusible(config: PreTrainedConfig, architecture: str) -> None:
    if architecture not in FAMILIES:
        declare(config, architecture)


def load_for_measurement(
    models: Sequence[str], data: str, limit: int | None, options: Options
) -> tuple[list[Network], list[Batch], AlignContext]:
    """Models that fit each other, the labelled samples they are measured on, and what they are aligned by."""
    options.torch_device()
    kind, *_ = check_checkpoints(models, options, check_fusible)
    samples = task(kind).labeled(load_samples(data)).take(limit, options.seed)
    calibration = load_samples(data, CALIBRATION)
    loaded = [load(name, options) for name in models]
    token_rows(models, loaded, "same")
    networks = checked_networks(loaded, models, options)
    batches = list(labeled_batches(samples, loaded[0], models[0], options))
    return networks, batches, calibrate(networks, models[0], calibration, options)
