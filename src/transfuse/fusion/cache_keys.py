"""What the finished work of a fusion is kept by: its inputs, by their contents, and the options that change it."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from itertools import repeat

from transfuse.base.batch import Batch
from transfuse.base.cache import NO_STORE, Store
from transfuse.base.hashing import digest
from transfuse.config.options import Options
from transfuse.fusion.record import Origin
from transfuse.network.spec import Spec

UNCHANGING = {"merge", "dtype", "device", "allow_pickle", "spec"}  # options that change no map and no fitted layer


@dataclass(frozen=True)
class CacheKeys:
    """Where work is kept.

    Attributes:
        pairs: of the anchor and each model after it: what they look like, and maps between them.
        whole: of all models together.
    """

    pairs: Sequence[Store]
    whole: Store = NO_STORE


def no_cache(models: int) -> CacheKeys:
    """Of so many models, nothing."""
    return CacheKeys(list(repeat(NO_STORE, models - 1)))


def cache_keys(
    store: Store, origins: Sequence[Origin], specs: Sequence[Spec], options: Options, batches: Sequence[Batch]
) -> CacheKeys:
    """CacheKeys on models and data with these contents, declared so."""
    if store.folder is None:
        return no_cache(len(origins))
    declared = [digest(repr(spec), {}) for spec in specs]
    models = [
        [each.architecture, *sorted(each.sha256.values()), spec] for each, spec in zip(origins, declared, strict=True)
    ]
    seen = {"data": [digest("", batch) for batch in batches], "vocab": options.vocab, "transfuse": version("transfuse")}
    chosen = options.model_dump(mode="json", exclude=UNCHANGING)
    pairs = [store.of(anchor=models[0], source=source, **seen) for source in models[1:]]
    return CacheKeys(pairs, store.of(models=models, options=chosen, **seen))
