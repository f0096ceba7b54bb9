"""Text from outside, such as file names, made safe to print."""


def printable(text: str) -> str:
    """Return `text` in one line, with control characters escaped."""
    line = " ".join(text.split())
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii") for letter in line
    )
