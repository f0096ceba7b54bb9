"""Text from outside, made safe to print."""


def printable(text: str) -> str:
    """`text` in one line, control characters escaped: names of files may hold any."""
    line = " ".join(text.split())
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii") for letter in line
    )
