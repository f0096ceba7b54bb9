"""The settings of processors that decide what a model reads, by name, to tell whether two prepare samples alike."""

from collections.abc import Mapping
from typing import Any

TOKENS = ("vocabulary", "normalizer", "pre_tokenizer")  # settings that determine token ids


def pixel_settings(processor: Any) -> dict[str, Any]:
    """Return the settings of an image processor that determine pixels, without the names and types of classes."""
    return {name: value for name, value in processor.to_dict().items() if not name.endswith("_type")}


def token_settings(tokenizer: Any) -> dict[str, Any]:
    """Return the settings of a tokenizer that determine token ids, without truncation and padding."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    vocabulary, *parts = TOKENS
    return {vocabulary: tokenizer.get_vocab()} | {name: str(getattr(backend, name, "")) for name in parts}


def pair_settings(processor: Any) -> dict[str, Any]:
    """Return the settings of an `ImageTextProcessor` that determine pixels and token ids."""
    return pixel_settings(processor.images) | token_settings(processor.texts)


def differing_settings(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Return the names of the settings that differ, in alphabetical order. A setting without a value counts as absent.

    Args:
        one: the settings of a processor by name.
        other: those of another.
    """
    return [name for name in sorted(one.keys() | other.keys()) if one.get(name) != other.get(name)]
