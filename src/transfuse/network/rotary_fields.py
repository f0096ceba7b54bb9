"""The settings of rotary positions in one spelling, whichever version of transformers wrote them."""

from collections.abc import Mapping
from typing import Any

from transformers import PretrainedConfig

COMMON = ("rope_theta", "partial_rotary_factor")
# What transformers reads of each type of scaling; it ignores the other keys.
READ = {
    "default": (),
    "linear": ("factor",),
    "dynamic": ("factor",),
    "proportional": ("factor",),
    "yarn": (
        "factor",
        "original_max_position_embeddings",
        "attention_factor",
        "beta_fast",
        "beta_slow",
        "mscale",
        "mscale_all_dim",
        "truncate",
    ),
    "longrope": ("factor", "original_max_position_embeddings", "attention_factor", "short_factor", "long_factor"),
    "llama3": ("factor", "original_max_position_embeddings", "low_freq_factor", "high_freq_factor"),
}
DEFAULTS: dict[str, Any] = {"partial_rotary_factor": 1.0}
DEFAULTS_OF: dict[str, dict[str, Any]] = {
    "yarn": {"beta_fast": 32, "beta_slow": 1, "truncate": True},
    "proportional": {"factor": 1.0},
}


def rotary(config: PretrainedConfig, foreign: bool = False) -> dict[str, Any]:
    """What the model reads of its rotary settings, by path: `rope_theta`, or `full_attention.rope_theta`.

    Types have one spelling, defaults are filled in, and what a type of scaling does not read is left out.

    Args:
        foreign: whether the model is of a user's own class, which may read any key.
    """
    given = getattr(config, "rope_parameters", None) or {}
    kinds = {name: each for name, each in given.items() if isinstance(each, Mapping)}
    if not kinds:
        return _read(given, foreign) if given else {}
    return {f"{kind}.{name}": value for kind, each in kinds.items() for name, value in _read(each, foreign).items()}


def rope_type(given: Mapping[str, Any]) -> str:
    """The type of scaling, whose key was `type` before transformers 4.43."""
    return given.get("rope_type") or given.get("type") or "default"


def reads_length(settings: Mapping[str, Any]) -> bool:
    """Whether `max_position_embeddings` enters the angles, given what `rotary` returns."""
    for name, kind in settings.items():
        if name.rpartition(".")[2] == "rope_type":
            factor = settings.get(f"{name.removesuffix('rope_type')}factor")
            if kind not in READ or kind == "dynamic" or (kind in ("yarn", "longrope") and factor is None):
                return True
    return False


def _read(given: Mapping[str, Any], foreign: bool) -> dict[str, Any]:
    kind = rope_type(given)
    read = (*COMMON, *READ.get(kind, ()))
    names = [name for name in given if name != "type"] if foreign or kind not in READ else read
    values = {name: given.get(name) for name in names}
    filled = DEFAULTS | DEFAULTS_OF.get(kind, {})
    known = {name: filled.get(name) if value is None else value for name, value in values.items()}
    return {name: _plain(value) for name, value in known.items() if value is not None} | {"rope_type": kind}


def _plain(value: Any) -> Any:
    return [*value] if isinstance(value, tuple) else value
