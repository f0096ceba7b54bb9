"""Numbers of things in messages: "1 sample", "2 samples"."""

from collections.abc import Mapping, Sequence

SHOWN = 5  # names in a line
UNITS = {
    "layers": "block",
    "heads": "head",
    "kv_heads": "key-value head",
    "intermediate_size": "hidden unit",
}  # that a size of a model counts, by its role


def counted(number: int, noun: str, form: str = "") -> str:
    """Return a number with its noun, as in "1 batch" and "12 batches".

    Args:
        noun: in the singular.
        form: format of the number, such as "," for thousands.
    """
    return f"{number:{form}} {noun if number == 1 else plural(noun)}"


def counted_names(names: Sequence[str], noun: str) -> str:
    """Return how many things there are and the first of their names, as in "12 spaces (stream, head, ...)"."""
    shown = [*names[:SHOWN], *(["..."] if len(names) > SHOWN else [])]
    return counted(len(names), noun) + (f" ({', '.join(shown)})" if shown else "")


def counted_sizes(sizes: Mapping[str, int]) -> str:
    """Return sizes of a model in words, as in "a width of 64, 2 heads and 256 hidden units".

    Args:
        sizes: by their roles, as in `Sizes`.
    """
    counts = [_counted_size(role, size) for role, size in sizes.items()]
    return " and ".join(filter(None, [", ".join(counts[:-1]), counts[-1]]))


def _counted_size(role: str, size: int) -> str:
    if role == "head_size":
        return f"{counted(size, 'channel')} per head"
    return counted(size, UNITS[role]) if role in UNITS else f"a width of {size}"


def plural(noun: str) -> str:
    """Return the plural of a regular noun."""
    if noun.endswith(("s", "x", "ch", "sh")):
        return noun + "es"
    return noun[:-1] + "ies" if noun.endswith("y") and noun[-2:-1] not in "aeiou" else noun + "s"


def are(number: int) -> str:
    """Return the verb for a number of things."""
    return "is" if number == 1 else "are"


def have(number: int) -> str:
    """Return the verb for what a number of things have."""
    return "has" if number == 1 else "have"
