"""The tokens whose states make the embedding of a text, as the files of sentence-transformers say."""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from jaxtyping import Bool, Int
from torch import Tensor

from transfuse.base.progress import Progress
from transfuse.checkpoint.reading.companions import MODULES
from transfuse.checkpoint.reading.sentences import POOLING, pooling_modes, read_modules
from transfuse.data.samples import Prepare
from transfuse.errors import CheckpointError

POOLED = "labels_pooled"  # in a batch: tokens [text, token] that are pooled instead of all; no model reads it
FIRST, LAST = "cls", "lasttoken"  # modes that pool a single token


def with_pooled_token(prepare: Prepare, folder: Path) -> Prepare:
    """Return a function that adds `labels_pooled` [text, token] if the model in a folder pools one token of a text.

    All other modes, such as the mean, add nothing.
    """
    modes = named_modes(folder)
    if modes not in ([FIRST], [LAST]):
        return prepare

    def prepare_pooled(texts: list[Any]) -> Mapping[str, Tensor]:
        batch = prepare(texts)
        return {**batch, POOLED: single_token(batch["attention_mask"], modes[0])}

    return prepare_pooled


def named_modes(folder: Path) -> list[str]:
    """Return the modes that the files in a folder name; none if these cannot be read, which does not stop measuring."""
    with suppress(CheckpointError):
        return pooling_modes(read_modules(folder, POOLING))
    return []


def warn_of_pooling(folders: Mapping[str, Path | None], progress: Progress) -> None:
    """Tell which models name other modes than the first one that names any.

    Args:
        folders: the folder of each model by its name; None: it names none.
    """
    modes = {name: named for name, folder in folders.items() if folder is not None and (named := named_modes(folder))}
    first = next(iter(modes), "")
    for name, named in modes.items():
        if named != modes[first]:
            progress.warn(
                f"{name}: its {MODULES} pools tokens by {' and '.join(named)}, that of {first} by"
                f" {' and '.join(modes[first])}"
            )


def single_token(mask: Int[Tensor, "text token"], mode: str) -> Bool[Tensor, "text token"]:
    """Return which token is the first or the last of each text, wherever the padding is."""
    place = 1 if mode == FIRST else mask.sum(1, keepdim=True)
    return (mask.cumsum(1) == place) & (mask > 0)
