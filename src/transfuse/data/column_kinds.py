"""What a column of some kind holds or can hold, which its feature in a dataset tells."""

from typing import Any

from datasets import ClassLabel, Image, Value

STRINGS = ("string", "large_string")


def is_string(feature: Any) -> bool:
    """Return whether a column holds texts."""
    return isinstance(feature, Value) and feature.dtype in STRINGS


def contents(feature: Any) -> str:
    """Return what a column of this kind holds, for a message."""
    if is_string(feature):
        return "texts"
    if is_number(feature):
        return "booleans" if feature.dtype == "bool" else "numbers"
    if isinstance(feature, ClassLabel | Image):
        return "classes" if isinstance(feature, ClassLabel) else "images"
    if type(feature).__name__ == "Json":
        return "values of several kinds"
    if isinstance(feature, list) or hasattr(feature, "feature"):
        return f"lists of {contents(feature[0] if isinstance(feature, list) else feature.feature)}"
    return "dicts" if isinstance(feature, dict) else getattr(feature, "dtype", None) or type(feature).__name__


def could_be_label(feature: Any) -> bool:
    """Return whether a column of this kind can hold labels."""
    if isinstance(feature, ClassLabel) or is_string(feature):
        return True
    return isinstance(feature, Value) and (feature.dtype == "bool" or "int" in feature.dtype)


def holds_labels(feature: Any) -> bool:
    """Return whether a column of this kind can hold labels of any model: classes, numbers, or lists of them."""
    inner = getattr(feature, "feature", feature)
    return could_be_label(inner) or is_number(inner) or isinstance(feature, dict)


def is_number(feature: Any) -> bool:
    """Return whether a column holds numbers."""
    return isinstance(feature, Value) and feature.dtype.startswith(("bool", "int", "uint", "float", "double"))


def could_be_image(feature: Any) -> bool:
    """Return whether a column of this kind can hold images: decoded, as encoded bytes, or by the names of files."""
    return isinstance(feature, Image) or holds_bytes(feature) or is_string(feature)


def holds_bytes(feature: Any) -> bool:
    """Return whether a column holds encoded files."""
    if isinstance(feature, dict):
        return "bytes" in feature and set(feature) <= {"bytes", "path"}
    return isinstance(feature, Value) and feature.dtype in ("binary", "large_binary")
