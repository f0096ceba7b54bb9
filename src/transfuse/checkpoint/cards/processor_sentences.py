"""Sentences on models whose own processor prepares samples otherwise than the one that prepared them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from transfuse.base.short_names import short_names


def processor_sentences(
    others: Sequence[Mapping[str, Any]],
    models: Sequence[Mapping[str, Any]],
    shown: Callable[[str], str] = str,
) -> list[str]:
    """Return a sentence on each model whose processor differs from the one that prepared the samples.

    Args:
        others: `other_processors` of a record: the path of a model, its processor and the settings that differ.
        models: the models of the record, whose short names tell them apart.
        shown: returns a name as it is written.
    """
    paths = [str(model["path"]) for model in models]
    names = dict(zip(paths, short_names(paths), strict=True))
    return [
        f"The {other['processor']} of {shown(names[other['model']])} has other settings"
        f" ({', '.join(map(shown, other['settings']))}) than the one that prepared all samples."
        for other in others
    ]
