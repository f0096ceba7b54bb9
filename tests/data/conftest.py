"""Data is read without a network."""

from no_network import lookups

__all__ = ["lookups"]
