"""Keys of transformers 4, added to those of transformers 5 in a written config.json.

Older readers (transformers 4, engines built on it, converters) silently use a default for a key that is missing:
another rotary base, float32, 128 experts. transformers 5 reads both spellings alike.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from transformers import CONFIG_MAPPING

from transfuse.base.unique_json import read_json
from transfuse.checkpoint.reading.companions import CONFIG
from transfuse.checkpoint.reading.files import stored_dtypes, weight_files
from transfuse.checkpoint.writing.output import write_json

Json = dict[str, Any]
LONGROPE = ("type", "short_factor", "long_factor")  # the only keys that transformers 4 accepts for Phi-3
HEAD = "lm_head.weight"
T5 = ("t5", "mt5", "umt5")  # model types whose heads transformers 4 ties and scales, or neither
TOWERS = ("text_config", "vision_config")


def add_legacy_keys(folder: Path) -> None:
    """Add the legacy keys to the config.json in `folder`, after its weights have been written.

    transformers 5 reads the same configuration as before. It leaves out two classes without names even where its own
    default is another number, so that it could not read what it wrote; they are added too.

    Raises:
        OutputError: the file cannot be written.
    """
    file = folder / CONFIG
    config = read_json(file)
    added = with_legacy_keys(config)
    is_unscaled = config.get("model_type") == "mt5" or config.get("scale_decoder_outputs") is False
    if config.get("model_type") in T5 and is_unscaled and _has_head(folder):
        added["tie_word_embeddings"] = False  # both versions read this as: do not scale outputs
    model_type = config.get("model_type")
    if "id2label" not in config and model_type in CONFIG_MAPPING and CONFIG_MAPPING[model_type]().num_labels != 2:
        added["id2label"] = {str(number): f"LABEL_{number}" for number in range(2)}
        added["label2id"] = {f"LABEL_{number}": number for number in range(2)}
    if added != config:
        write_json(file, dict(sorted(added.items())))


def with_legacy_keys(config: Mapping[str, Any]) -> Json:
    """Return a configuration written by transformers 5 with the keys that transformers 4 reads added."""
    nested = {name: with_legacy_keys(config[name]) for name in TOWERS if isinstance(config.get(name), dict)}
    extended = {**config, **nested}
    if isinstance(config.get("dtype"), str):
        extended["torch_dtype"] = config["dtype"]
    rotary = config.get("rope_parameters")
    model_type = config.get("model_type", "")
    if rotary and model_type in ROTARY:
        extended |= ROTARY[model_type](rotary, config)
    if model_type in PATTERNS and config.get("layer_types"):
        extended.pop(PATTERNS[model_type][0], None)  # blocks may have been removed since it was written
        extended |= _pattern(config, *PATTERNS[model_type])
    if model_type == "qwen3_moe" and "num_local_experts" in config:
        extended["num_experts"] = config["num_local_experts"]
    return extended


def _plain(rotary: Json, config: Mapping[str, Any]) -> Json:
    """Return the keys for one set of rotary settings in all layers."""
    if any(isinstance(value, dict) for value in rotary.values()) or rotary.get("rope_theta") is None:
        return {}
    keys = {"rope_theta": rotary["rope_theta"], "rope_scaling": _scaling(rotary, config)}
    if rotary.get("partial_rotary_factor") is not None:
        keys["partial_rotary_factor"] = rotary["partial_rotary_factor"]
    if keys["rope_scaling"] and keys["rope_scaling"]["rope_type"] == "longrope":
        keys["original_max_position_embeddings"] = rotary["original_max_position_embeddings"]
    return keys


def _gpt_neox(rotary: Json, config: Mapping[str, Any]) -> Json:
    """Return the keys of `_plain` under the names of GPT-NeoX."""
    names = {"rope_theta": "rotary_emb_base", "partial_rotary_factor": "rotary_pct"}
    return {names.get(name, name): value for name, value in _plain(rotary, config).items()}


def _phi3(rotary: Json, config: Mapping[str, Any]) -> Json:
    """Return the keys of `_plain`, with the scaling reduced to `LONGROPE`.

    transformers 4 refuses other keys. If the scaling has more settings, `rope_scaling` is left out, because
    transformers 5 would lose them.
    """
    keys = _plain(rotary, config)
    scaling = _scaling(rotary, config)
    if scaling and not {*scaling} - {*LONGROPE, "rope_type", "original_max_position_embeddings"}:
        keys["rope_scaling"] = {name: scaling[name] for name in LONGROPE}
    elif scaling:
        del keys["rope_scaling"]
    return keys


def _gemma3(rotary: Json, config: Mapping[str, Any]) -> Json:
    """Return the keys for global layers, which may be scaled, and local ones, which may not."""
    full = rotary.get("full_attention")
    local = rotary.get("sliding_attention")
    if not full or not local or _scaling(local, config):
        return {}
    keys = {"rope_theta": full["rope_theta"], "rope_local_base_freq": local["rope_theta"]}
    return keys | {"rope_scaling": _scaling(full, config)}


def _modernbert(rotary: Json, config: Mapping[str, Any]) -> Json:
    """Return the keys for a model without scaling."""
    full = rotary.get("full_attention")
    local = rotary.get("sliding_attention")
    if not full or not local or _scaling(full, config) or _scaling(local, config):
        return {}
    return {"global_rope_theta": full["rope_theta"], "local_rope_theta": local["rope_theta"]}


PLAIN = (
    "llama",
    "mistral",
    "mixtral",
    "qwen2",
    "qwen3",
    "qwen3_moe",
    "olmo2",
    "gemma2",
    "olmo",
    "olmoe",
    "granite",
    "smollm3",
    "gemma",
    "starcoder2",
    "phi",
    "stablelm",
    "cohere",
    "cohere2",
    "falcon",
)
ROTARY: dict[str, Callable[[Json, Mapping[str, Any]], Json]] = dict.fromkeys(PLAIN, _plain) | {
    "gpt_neox": _gpt_neox,
    "phi3": _phi3,
    "gemma3_text": _gemma3,
    "modernbert": _modernbert,
}
PATTERNS = {  # keys that say which layers are global, with the number of the first layer
    "gemma3_text": ("sliding_window_pattern", 1),
    "cohere2": ("sliding_window_pattern", 1),
    "modernbert": ("global_attn_every_n_layers", 0),
}


def _scaling(rotary: Json, config: Mapping[str, Any]) -> Json | None:
    """Return `rope_scaling`, with its type under both the older and the newer key; None if nothing is scaled."""
    kind = rotary.get("rope_type") or rotary.get("type") or "default"
    if kind == "default":
        return None
    scaling = {name: value for name, value in rotary.items() if name not in ("rope_theta", "partial_rotary_factor")}
    if kind == "yarn" and scaling.get("original_max_position_embeddings") == config.get("max_position_embeddings"):
        del scaling["original_max_position_embeddings"]  # transformers 5 fills it in; some versions of 4 divide by it
    return scaling | {"type": kind, "rope_type": kind}


def _pattern(config: Mapping[str, Any], name: str, first: int) -> Json:
    """Return the key that says that every n-th layer is global; no key if `layer_types` says something else.

    Args:
        name: the key, whose value in the configuration is kept if it is right.
        first: the number of the first layer.
    """
    types = config["layer_types"]
    numbers = range(first, len(types) + first)
    for period in (config.get(name), config.get(f"_{name}"), *range(1, len(types) + 2)):
        if isinstance(period, int) and period > 0:
            expected = ["sliding_attention" if number % period else "full_attention" for number in numbers]
            if types == expected:
                return {name: period}
    return {}


def _has_head(folder: Path) -> bool:
    return any(HEAD in stored_dtypes(file) for file in weight_files(folder))
