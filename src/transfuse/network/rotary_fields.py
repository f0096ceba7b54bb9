"""The settings of rotary positions in one spelling, whichever version of transformers wrote them."""

from collections.abc import Mapping
from typing import Any

from transformers import PreTrainedConfig

from transfuse.network.families.parts import declared_setting

COMMON_KEYS = ("rope_theta", "partial_rotary_factor")
# Model types in which only a share of the channels of a head may rotate; without scaling, only these read that share.
PARTLY_ROTARY = ("phi", "phi3", "stablelm", "gpt_neox", "qwen3_next", "qwen3_5_text", "qwen3_5_moe_text")
# The keys that transformers reads for each type of scaling; it ignores the others.
KEYS_READ = {
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
DEFAULTS_BY_TYPE: dict[str, dict[str, Any]] = {
    "yarn": {"beta_fast": 32, "beta_slow": 1, "truncate": True},
    "proportional": {"factor": 1.0},
}


def rotary(config: PreTrainedConfig, reviewed: bool = True) -> dict[str, Any]:
    """Return the rotary settings that the model reads, by path: `rope_theta`, or `full_attention.rope_theta`.

    Types have one spelling, defaults are filled in, and keys that a type of scaling does not read are left out.

    Args:
        reviewed: False for a class that a user wrote, which may read any key.
    """
    if reviewed and declared_setting(config, "alibi"):
        return {}  # Falcon then has no rotary positions
    settings = getattr(config, "rope_parameters", None) or {}
    by_layer_type = {name: value for name, value in settings.items() if isinstance(value, Mapping)}
    if not by_layer_type:
        return _keys_read(config, settings, reviewed) if settings else {}
    return {
        f"{layer_type}.{name}": value
        for layer_type, layer_settings in by_layer_type.items()
        for name, value in _keys_read(config, layer_settings, reviewed).items()
    }


def rope_type(settings: Mapping[str, Any]) -> str:
    """Return the type of scaling, whose key was `type` before transformers 4.43."""
    return settings.get("rope_type") or settings.get("type") or "default"


def reads_length(settings: Mapping[str, Any]) -> bool:
    """Return whether `max_position_embeddings` affects the angles, given the result of `rotary`."""
    for name, kind in settings.items():
        if name.rpartition(".")[2] == "rope_type":
            factor = settings.get(f"{name.removesuffix('rope_type')}factor")
            if kind not in KEYS_READ or kind == "dynamic" or (kind in ("yarn", "longrope") and factor is None):
                return True
    return False


def _keys_read(config: PreTrainedConfig, settings: Mapping[str, Any], reviewed: bool) -> dict[str, Any]:
    kind = rope_type(settings)
    if reviewed and kind in KEYS_READ:
        ignored = "" if kind != "default" or config.model_type in PARTLY_ROTARY else "partial_rotary_factor"
        names = [name for name in (*COMMON_KEYS, *KEYS_READ[kind]) if name != ignored]
    else:
        names = [name for name in settings if name != "type"]
    defaults = DEFAULTS | DEFAULTS_BY_TYPE.get(kind, {})
    values = {name: settings.get(name) for name in names}
    filled = {name: defaults.get(name) if value is None else value for name, value in values.items()}
    return {name: _as_list(value) for name, value in filled.items() if value is not None} | {"rope_type": kind}


def _as_list(value: Any) -> Any:
    return [*value] if isinstance(value, tuple) else value
