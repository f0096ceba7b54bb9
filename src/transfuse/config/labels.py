"""How messages name options: by flags, by lines of a configuration file, or by keyword arguments."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import TypeAlias

from transfuse.errors import ConfigError

Labels: TypeAlias = Mapping[str, str]  # how a message names each option that was given
BY_NAME: Labels = MappingProxyType({})  # each option by its name, as in Python
MODELS = "MODELS"  # how a message names the models if they are arguments of a command


def label(labels: Labels, name: str) -> str:
    """Return how a message names an option: as it was given, else as it would be given."""
    return labels.get(name) or spelled(labels, name)


def spelled(labels: Labels, name: str) -> str:
    """Return what gives an option: a flag if a command was called, else its name."""
    return f"--{name.replace('_', '-')}" if labels.get("models") == MODELS else name


def refused(labels: Labels, name: str, why: str) -> ConfigError:
    """Return the error of an option.

    Args:
        why: what is wrong, and what to do.
    """
    return ConfigError(f"{label(labels, name)}: {why}")
