"""Numbers of things in messages: "1 sample", "2 samples"."""


def counted(number: int, noun: str, form: str = "") -> str:
    """Return a number with its noun, as in "1 batch" and "12 batches".

    Args:
        noun: in the singular.
        form: format of the number, such as "," for thousands.
    """
    return f"{number:{form}} {noun if number == 1 else plural(noun)}"


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


def do(number: int) -> str:
    """Return the verb for what a number of things do."""
    return "does" if number == 1 else "do"
