"""The block that a tensor, a module or a space belongs to, as its name says."""

import re

BLOCK = re.compile(r"(^|\.)(\d+)\.")


def block_place(name: str) -> tuple[str, int] | None:
    """Return the name of the list of blocks, and the number of the block in it; None: the name has no number."""
    found = BLOCK.search(name)
    return (name[: found.start()], int(found[2])) if found else None


def block_number(name: str) -> int | None:
    """Return the number of the block; None: the name has none."""
    place = block_place(name)
    return place[1] if place else None


def kind_name(name: str) -> str:
    """Return the name without the number of the block."""
    return BLOCK.sub(r"\1", name)
