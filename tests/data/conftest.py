"""Data is read without a network."""

from offline import lookups

__all__ = ["lookups"]
