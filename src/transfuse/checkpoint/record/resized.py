"""What became of models of other sizes than the anchor, as lines in the record of a fusion."""

from collections.abc import Iterable

GETS_WIDER = "it gets wider without a change of its function"
GIVES_UP = "it gives up"


def gave_up(line: str) -> bool:
    """Return whether a model lost a part of itself, so that its function changed."""
    return GIVES_UP in line


def resized_by_samples(lines: Iterable[str]) -> bool:
    """Return whether samples may have decided how a model got the sizes of the anchor: all that is not just wider."""
    return any(not line.endswith(f"; {GETS_WIDER}") for line in lines)
