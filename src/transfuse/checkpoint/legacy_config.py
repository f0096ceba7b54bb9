"""Keys of transformers 4 beside those of transformers 5 in a written config.json.

Readers of before (transformers 4, engines built on it, converters) take a default, silently, where a key of theirs is
missing: another rotary base, float32, 128 experts. transformers 5 reads both spellings as one.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from transfuse.checkpoint.files import stored_dtypes, weight_files
from transfuse.checkpoint.output import write_json

Json = dict[str, Any]
LONGROPE = ("type", "short_factor", "long_factor")  # all keys that transformers 4 lets a Phi-3 have
HEAD = "lm_head.weight"
TOWERS = ("text_config", "vision_config")


def add_legacy_keys(folder: Path) -> None:
    """Add the legacy keys to the config.json in `folder`, whose weights are written already.

    What transformers 5 reads stays the same. Raises OutputError where the file cannot be written.
    """
    file = folder / "config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    added = with_legacy_keys(config)
    if config.get("model_type") == "t5" and config.get("scale_decoder_outputs") is False and _has_head(folder):
        added["tie_word_embeddings"] = False  # both versions take it to say that outputs are not scaled
    if added != config:
        write_json(file, dict(sorted(added.items())))


def with_legacy_keys(config: Mapping[str, Any]) -> Json:
    """A configuration as transformers 5 writes it, and the keys that transformers 4 reads."""
    nested = {name: with_legacy_keys(config[name]) for name in TOWERS if isinstance(config.get(name), dict)}
    found = {**config, **nested}
    if isinstance(config.get("dtype"), str):
        found["torch_dtype"] = config["dtype"]
    rotary, model_type = config.get("rope_parameters"), config.get("model_type", "")
    if rotary and model_type in ROTARY:
        found |= ROTARY[model_type](rotary, config)
    if model_type == "qwen3_moe" and "num_local_experts" in config:
        found["num_experts"] = config["num_local_experts"]
    return found


def _plain(rotary: Json, config: Mapping[str, Any]) -> Json:
    """One set of rotary settings for all layers."""
    if any(isinstance(each, dict) for each in rotary.values()) or rotary.get("rope_theta") is None:
        return {}
    found = {"rope_theta": rotary["rope_theta"], "rope_scaling": _scaling(rotary, config)}
    if rotary.get("partial_rotary_factor") is not None:
        found["partial_rotary_factor"] = rotary["partial_rotary_factor"]
    if found["rope_scaling"] and found["rope_scaling"]["rope_type"] == "longrope":
        found["original_max_position_embeddings"] = rotary["original_max_position_embeddings"]
    return found


def _gpt_neox(rotary: Json, config: Mapping[str, Any]) -> Json:
    found = _plain(rotary, config)
    names = {"rope_theta": "rotary_emb_base", "partial_rotary_factor": "rotary_pct"}
    return {names.get(name, name): value for name, value in found.items()}


def _phi3(rotary: Json, config: Mapping[str, Any]) -> Json:
    """transformers 4 refuses other keys than three; transformers 5 would lose what they leave out."""
    found, scaling = _plain(rotary, config), _scaling(rotary, config)
    if scaling and not {*scaling} - {*LONGROPE, "rope_type", "original_max_position_embeddings"}:
        found["rope_scaling"] = {name: scaling[name] for name in LONGROPE}
    elif scaling:
        del found["rope_scaling"]
    return found


def _gemma3(rotary: Json, config: Mapping[str, Any]) -> Json:
    """Global layers are scaled, local ones are not."""
    whole, local = rotary.get("full_attention"), rotary.get("sliding_attention")
    if not whole or not local or _scaling(local, config):
        return {}
    found = {"rope_theta": whole["rope_theta"], "rope_local_base_freq": local["rope_theta"]}
    pattern = config.get("_sliding_window_pattern")
    if pattern and config.get("layer_types") == _layers(config, pattern, 1):
        found["sliding_window_pattern"] = pattern
    return found | {"rope_scaling": _scaling(whole, config)}


def _modernbert(rotary: Json, config: Mapping[str, Any]) -> Json:
    """Every so many layers one is global, the first of all among them; no layer is scaled."""
    whole, local = rotary.get("full_attention"), rotary.get("sliding_attention")
    if not whole or not local or _scaling(whole, config) or _scaling(local, config):
        return {}
    found = {"global_rope_theta": whole["rope_theta"], "local_rope_theta": local["rope_theta"]}
    count = len(config.get("layer_types") or ())
    for every in range(1, count + 1):
        if config["layer_types"] == _layers(config, every, 0):
            return found | {"global_attn_every_n_layers": every}
    return found


PLAIN = ("llama", "mistral", "mixtral", "qwen2", "qwen3", "qwen3_moe", "olmo2", "gemma2")
ROTARY: dict[str, Callable[[Json, Mapping[str, Any]], Json]] = dict.fromkeys(PLAIN, _plain) | {
    "gpt_neox": _gpt_neox,
    "phi3": _phi3,
    "gemma3_text": _gemma3,
    "modernbert": _modernbert,
}


def _scaling(rotary: Json, config: Mapping[str, Any]) -> Json | None:
    """`rope_scaling`, its type under the older key too; None where nothing is scaled."""
    kind = rotary.get("rope_type") or rotary.get("type") or "default"
    if kind == "default":
        return None
    left = {name: each for name, each in rotary.items() if name not in ("rope_theta", "partial_rotary_factor")}
    if kind == "yarn" and left.get("original_max_position_embeddings") == config.get("max_position_embeddings"):
        del left["original_max_position_embeddings"]  # transformers 5 fills it in, some of 4 divide by it
    return left | {"type": kind, "rope_type": kind}


def _layers(config: Mapping[str, Any], every: int, first: int) -> list[str]:
    """The types of layers, one in `every` global; `first` is the number that the first layer is counted with."""
    count = len(config.get("layer_types") or ())
    return ["sliding_attention" if layer % every else "full_attention" for layer in range(first, count + first)]


def _has_head(folder: Path) -> bool:
    return any(HEAD in stored_dtypes(file) for file in weight_files(folder))
