"""Texts that follow a context, which a language model reads but is not measured on."""

from typing import Any

CONTEXT, TEXT = "context", "text"


def in_context(context: str, text: str) -> dict[str, str]:
    """Return a text with the text before it."""
    return {CONTEXT: context, TEXT: text}


def has_context(value: Any) -> bool:
    """Return whether a sample is a text with a context."""
    return isinstance(value, dict) and value.keys() == {CONTEXT, TEXT}


def context_length(value: Any) -> int:
    """Return the number of characters of a sample's context."""
    return len(value[CONTEXT]) if has_context(value) else 0
