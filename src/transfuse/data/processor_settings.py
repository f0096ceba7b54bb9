"""The settings of processors that decide what a model reads, by name, to tell whether two prepare samples alike."""

from collections.abc import Mapping
from typing import Any

from transfuse.data.text.texts import tokenized

TOKENS = ("vocabulary", "normalizer", "pre_tokenizer", "special_tokens")  # settings that determine token ids


def pixel_settings(processor: Any) -> dict[str, Any]:
    """Return the settings of an image processor that determine pixels, without the names and types of classes."""
    return {name: value for name, value in processor.to_dict().items() if not name.endswith("_type")}


def token_settings(tokenizer: Any) -> dict[str, Any]:
    """Return the settings of a tokenizer that determine token ids, without truncation and padding."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    vocabulary, *parts, special = TOKENS
    shown = {name: str(getattr(backend, name, "")) for name in parts}
    return {vocabulary: tokenizer.get_vocab()} | shown | {special: _tokens_around_text(tokenizer)}


def _tokens_around_text(tokenizer: Any) -> list[str]:
    """Return the tokens that a tokenizer adds to a text, such as [CLS], with an empty string in place of the text."""
    encoding = tokenized(tokenizer, None, ["a"], padding=False, return_special_tokens_mask=True)
    ids, added = (encoding[name][0].tolist() for name in ("input_ids", "special_tokens_mask"))
    tokens = [
        token if is_added else "" for token, is_added in zip(tokenizer.convert_ids_to_tokens(ids), added, strict=True)
    ]
    return [token for index, token in enumerate(tokens) if token or tokens[index - 1 : index] != [""]]


def template_settings(tokenizer: Any) -> dict[str, Any]:
    """Return the chat template of a tokenizer, which determines the texts of conversations; None if there is none."""
    return {"chat_template": getattr(tokenizer, "chat_template", None)}


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
