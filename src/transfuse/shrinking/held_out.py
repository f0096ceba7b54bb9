"""The samples that layers are fitted to and trained on, and those that tell how good the small model is."""

from collections.abc import Sequence

from transfuse.base.batch import Batch, batch_size, first_samples
from transfuse.distillation.validation import BatchSplit, split_samples
from transfuse.merging.training.learning import MAX_FITTED_SAMPLES


def split(batches: Sequence[Batch]) -> tuple[list[Batch], list[Batch]]:
    """Return training and validation batches, without those that have nothing to predict.

    Raises:
        DataError: no sample has anything to predict, or there are fewer than two samples.
    """
    return split_samples(batches, "shrinking")


def split_again(train: Sequence[Batch], validation: Sequence[Batch]) -> BatchSplit:
    """Return two parts of the training samples, or both splits as they are if there is only one training sample."""
    return split(train) if sum(map(batch_size, train)) > 1 else (train, validation)


def split_to_fit(batches: Sequence[Batch], trains: bool) -> BatchSplit:
    """Return the samples that layers are fitted to, as samples to choose units and blocks by, and others.

    Args:
        trains: whether weights are trained afterward. The samples that `split` holds out then tell when the training
            should stop, so layers are not fitted to them, unless there are only two samples.

    Raises:
        DataError: no sample has anything to predict, or there are fewer than two samples.
    """
    train, validation = split(batches)
    few: list[Batch] = [*first_samples(train, MAX_FITTED_SAMPLES)]
    return split_again(few, validation) if trains else (few, validation)
