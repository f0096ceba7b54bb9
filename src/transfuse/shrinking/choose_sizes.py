"""The best of several sizes with as many parameters: those with which the predictions change least."""

from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

from transfuse.base.batch import first_samples
from transfuse.base.cache import NO_STORE, Store
from transfuse.base.progress import Progress, silent
from transfuse.distillation.validation import BatchSplit
from transfuse.network.model import Network
from transfuse.network.sizes import Sizes
from transfuse.shrinking.damage import damage_fn
from transfuse.shrinking.held_out import split_again
from transfuse.shrinking.small_model import fitted

CHOICE_SAMPLES = 200  # that sizes are compared on, as long as there is more than one choice


def choose_sizes(
    large: Network,
    possible: Sequence[Sequence[Sizes]],
    split: BatchSplit,
    progress: Progress,
    store: Store = NO_STORE,
) -> tuple[Sizes, list[dict[str, Any]]]:
    """Return the sizes with which the predictions change least once layers are fitted, and all that were tried.

    Models without a head are compared by the similarities of samples.

    Args:
        possible: series of possible sizes.
        split: training and validation samples, of which the first ones are used. Layers are fitted to the former, and
            predictions are compared on the latter. (If there is only one of the former, layers are fitted to both.)
        store: cache of the change of the predictions, by sizes.

    Raises:
        DataError: there are too few samples to compare models without a head.
    """
    if sum(map(len, possible)) == 1:
        return next(chain.from_iterable(possible)), []
    train, validation = ([*first_samples(part, CHOICE_SAMPLES)] for part in split)
    own_split = split_again(train, validation)
    damage = damage_fn(large.model, validation)

    def measured(sizes: Sizes) -> float:
        """Return the divergence from the large model's predictions, or from its similarities."""
        name = f"sizes {'-'.join(map(str, sizes.given().values()))}"
        if (entry := store.load(name)) is not None:
            return float(entry.facts)
        divergence = damage(fitted(large, sizes, own_split, silent)[0])
        store.keep(name, {}, divergence)
        return divergence

    losses: dict[Sizes, float] = {}
    for series in possible:
        losses |= tried_candidates(series, measured, progress)
    best = min(losses, key=losses.__getitem__)
    return best, [sizes.given() | {"divergence": loss} for sizes, loss in losses.items()]


def tried_candidates(
    sizes: Sequence[Sizes], damage: Callable[[Sizes], float], progress: Progress
) -> dict[Sizes, float]:
    """Try the sizes of a series in order, and return the damage of those that were tried.

    The search stops at the second sizes in a row that do more damage than the best so far.
    """
    losses: dict[Sizes, float] = {}
    for candidate in progress.track(sizes, "choosing sizes"):
        best = min(losses, key=losses.__getitem__, default=None)
        if best is None or [*losses].index(best) >= len(losses) - 2:
            losses[candidate] = damage(candidate)
    return losses
