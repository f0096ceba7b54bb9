"""What every command does first: see that checkpoints are there, readable, and of a kind it takes."""

from collections.abc import Callable, Iterator, Sequence

from transformers import PreTrainedConfig, PreTrainedModel

from transfuse.batch import Batch
from transfuse.config import Options, Settings
from transfuse.errors import SpecError
from transfuse.io.checkpoint import local_directory, read_config
from transfuse.io.data import Samples
from transfuse.io.files import weight_files
from transfuse.network.families import FAMILIES, declare
from transfuse.plugins import load_families
from transfuse.tasks import own_preparer, with_ids_of


def inspect(models: Sequence[str], options: Settings, accept: Callable[[PreTrainedConfig, str], None]) -> list[str]:
    """Every checkpoint is there, with weights that may be read, and of an architecture that `accept` lets pass.

    Returns the names of their classes.
    """
    load_families(options.spec)
    pickle, found = options.pickle_policy(), []
    for name in models:
        directory = local_directory(name, pickle)
        config = read_config(directory)
        weight_files(directory, pickle)
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


def fusible(config: PreTrainedConfig, architecture: str) -> None:
    if architecture not in FAMILIES:
        declare(config, architecture)


def batches_of(samples: Samples, model: PreTrainedModel, name: str, options: Options) -> Iterator[Batch]:
    """Prepared by the model's own processor, labelled with its own ids; one batch in memory at a time."""
    return with_ids_of(model.config, samples).batches(own_preparer(name, model), options.batch_size)
