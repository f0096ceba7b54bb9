"""The old place of `stream`, kept for one version."""

from transfuse.fusion.stream import stream

__all__ = ["stream"]
