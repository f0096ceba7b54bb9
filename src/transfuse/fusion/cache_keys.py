"""Name the finished work of a fusion by its inputs, by their contents, and by the options that change it."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version

from transfuse.base.batch import Batch
from transfuse.base.cache import NO_STORE, Store
from transfuse.base.hashing import digest
from transfuse.config.options import Options
from transfuse.fusion.record import Origin
from transfuse.network.spec import Spec

UNCHANGING = {"merge", "dtype", "device", "allow_pickle", "spec"}  # options that change no map and no fitted layer


@dataclass(frozen=True)
class CacheKeys:
    """Where finished work is kept.

    Attributes:
        pairs: for the anchor and each model after it: moments of activations, and maps between the two.
        joint: for all models together.
    """

    pairs: Sequence[Store]
    joint: Store = NO_STORE


def no_cache(models: int) -> CacheKeys:
    """Keep nothing for this many models."""
    return CacheKeys([NO_STORE] * (models - 1))


def cache_keys(
    store: Store, origins: Sequence[Origin], specs: Sequence[Spec], options: Options, batches: Sequence[Batch]
) -> CacheKeys:
    """Return the parts of `store` for models and samples with these contents, and these options."""
    if store.folder is None:
        return no_cache(len(origins))
    declarations = [digest(repr(spec), {}) for spec in specs]
    models = [
        [origin.architecture, *sorted(origin.sha256.values()), declaration]
        for origin, declaration in zip(origins, declarations, strict=True)
    ]
    shared = {
        "data": [digest("", batch) for batch in batches],
        "vocab": options.vocab,
        "transfuse": version("transfuse"),
    }
    chosen = options.model_dump(mode="json", exclude=UNCHANGING)
    pairs = [store.of(anchor=models[0], source=source, **shared) for source in models[1:]]
    return CacheKeys(pairs, store.of(models=models, options=chosen, **shared))
