"""Sizes in bytes, as people write and read them."""

import re


def parse_bytes(text: object) -> int:
    """`8GB`, `500MB`, `2GiB` or a plain number. Raises `ValueError`."""
    plain = str(text).strip() if isinstance(text, str | int | float) else ""
    found = re.fullmatch(r"(\d{1,20}(?:\.\d+)?) ?([KMGT]i?)?B?", plain, re.IGNORECASE | re.ASCII)
    if not found:
        raise ValueError("should be a size as 8GB or 500MB")
    number, unit = float(found[1]), (found[2] or "").upper()
    return int(number * (1024 if unit.endswith("I") else 1000) ** " KMGT".index(unit[:1] or " "))


def format_bytes(size: float) -> str:
    """A number of bytes as a user would say it."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"
