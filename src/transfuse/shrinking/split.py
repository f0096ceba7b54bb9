"""The samples that layers are fitted to and trained on, and those that tell how good the small model is."""

from collections.abc import Sequence

from transfuse.base.batch import Batch, has_targets, validation_split
from transfuse.errors import NO_TARGETS, ConfigError, DataError


def split(batches: Sequence[Batch]) -> tuple[list[Batch], list[Batch]]:
    """Return training and validation batches, without those that have nothing to predict.

    Raises:
        ConfigError: there are fewer than two samples.
        DataError: no sample has anything to predict.
    """
    train, validation = validation_split(batches, has_targets)
    if not any(map(has_targets, batches)):
        raise DataError(NO_TARGETS)
    if not train or not validation:
        raise ConfigError("data: shrinking needs at least two samples, to fit to and to validate on; give more")
    return train, validation
