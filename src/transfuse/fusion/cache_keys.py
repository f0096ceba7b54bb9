"""Name the cached results of a fusion after the contents of its inputs and the options that change the results."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version

from transfuse.alignment.interface import AlignContext
from transfuse.base.cache import NO_STORE, Store
from transfuse.base.hashing import tensors_digest, text_digest
from transfuse.checkpoint.record.origin import Origin
from transfuse.config.options import Options
from transfuse.config.settings import UNRELATED_OPTIONS
from transfuse.network.spec import Spec


@dataclass(frozen=True)
class CacheKeys:
    """Hold the caches of one fusion.

    Attributes:
        pairs: one store for the anchor and each source, with moments of activations and maps between the two.
        joint: the store for all models together.
    """

    pairs: Sequence[Store]
    joint: Store = NO_STORE


def no_cache(models: int) -> CacheKeys:
    """Return keys that cache nothing, for this many models."""
    return CacheKeys([NO_STORE] * (models - 1))


def cache_keys(
    store: Store,
    origins: Sequence[Origin],
    specs: Sequence[Spec],
    options: Options,
    context: AlignContext,
    base: Origin | None = None,
    resized: Sequence[str] = (),
) -> CacheKeys:
    """Return the parts of `store` that belong to these models, their base, samples and options.

    Args:
        context: the prepared samples, and what units are matched on.
        resized: hashes of the sources' weights if some got the sizes of the anchor, which their files do not tell.
    """
    if store.folder is None:
        return no_cache(len(origins))
    declarations = [text_digest(repr(spec)) for spec in specs]
    model_keys = [
        [origin.architecture, *sorted(origin.sha256.values()), declaration]
        for origin, declaration in zip(origins, declarations, strict=True)
    ]
    shared_key = {
        "data": [tensors_digest(batch) for batch in context.batches],
        "vocab": options.vocab,
        "head": options.head,
        "positions": options.positions,
        "settings": options.settings,
        "transfuse": version("transfuse"),
    }
    if resized:
        shared_key["resized"] = list(resized)
    option_values = options.model_dump(mode="json", exclude=UNRELATED_OPTIONS) | {"match_on": context.match_on}
    pairs = [store.of(anchor=model_keys[0], source=source, **shared_key) for source in model_keys[1:]]
    base_key = {} if base is None else {"base": sorted(base.sha256.values())}
    return CacheKeys(pairs, store.of(models=model_keys, options=option_values, **base_key, **shared_key))
