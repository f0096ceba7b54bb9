"""The sizes of a model, by role instead of by the names that each family gives them, and a model of other sizes."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from transformers import PreTrainedConfig, PreTrainedModel

from transfuse.base.budget import HEADS, HIDDEN, LAYERS, WIDTHS
from transfuse.errors import SpecError
from transfuse.network.stages import follow_blocks

FIELDS = {  # possible names of each size in config.json
    "hidden_size": WIDTHS,
    "layers": LAYERS,
    "intermediate_size": HIDDEN,
    "heads": HEADS,
    "kv_heads": ("num_key_value_heads", "num_kv_heads"),
    "head_size": ("head_dim", "attention_head_size", "d_kv"),
    "experts": ("num_experts", "num_local_experts"),
}
ACTIVE = "num_experts_per_tok"
BLOCK_SETTINGS = (  # lists with a setting for each block
    "layer_types",
    "layers_block_type",
    "mlp_layer_types",
    "no_rope_layers",
    "attention_layers",
)
HEADS_MAKE_WIDTH = ("phi", "stablelm", "gpt_neox")  # model types that do not read head_dim, even if it is set
SCORE_SCALES = ("query_pre_attn_scalar", "attention_multiplier")  # fields that scale scores instead of the head size
EMBEDDING_WIDTH = "embedding_size"
# Fields that may hold the width once more.
FOLLOW_WIDTH = ("pooler_hidden_size", "pooler_output_size", EMBEDDING_WIDTH, "word_embed_proj_dim")
EMBEDDINGS_APART = ("albert",)  # model types that always map embeddings to the stream, of whatever width


@dataclass(frozen=True)
class Sizes:
    """The sizes of a model. None: models of this family have no such size.

    Attributes:
        hidden_size: width of the residual stream.
        layers: number of blocks.
        intermediate_size: hidden units of each feed-forward network.
        heads: query heads of each block.
        kv_heads: heads of keys and values of each block.
        head_size: channels of each head.
        experts: experts of each block.
    """

    hidden_size: int | None = None
    layers: int | None = None
    intermediate_size: int | None = None
    heads: int | None = None
    kv_heads: int | None = None
    head_size: int | None = None
    experts: int | None = None

    def given(self) -> dict[str, int]:
        """Return the sizes that are not None, by name."""
        return {field.name: size for field in fields(self) if (size := getattr(self, field.name)) is not None}


def field_of(config: PreTrainedConfig, role: str) -> str | None:
    """Return the name of a size in the configuration, or None if there is none.

    The size of a head may be set without being declared. Only a Falcon with `new_decoder_architecture` reads its number
    of key-value heads.
    """
    if role == "kv_heads" and not getattr(config, "new_decoder_architecture", True):
        return None
    declared = {field.name for field in fields(type(config))}
    if role == "head_size":
        if config.model_type in HEADS_MAKE_WIDTH:
            return None
        declared |= {name for name, value in vars(config).items() if value}
    return next((name for name in FIELDS[role] if name in declared), None)


def sizes_of(config: PreTrainedConfig) -> Sizes:
    """Return the sizes of a model.

    Raises:
        SpecError: the model consists of several parts with sizes of their own, or its configuration has no width.
    """
    towers = [name for name in ("text_config", "vision_config", "encoder", "decoder") if hasattr(config, name)]
    if towers or getattr(config, "is_encoder_decoder", False):
        raise SpecError(
            f"a model of type {config.model_type} has two stacks of blocks with sizes of their own, which cannot"
            " be changed; give a model with one stack"
        )
    values = {role: getattr(config, name) for role in FIELDS if (name := field_of(config, role)) is not None}
    if values.get("hidden_size") is None or values.get("heads") is None:
        raise SpecError(
            f"a configuration of type {config.model_type} has no width or no heads, so its sizes cannot be changed"
        )
    if "intermediate_size" in values and values["intermediate_size"] is None:
        values["intermediate_size"] = 4 * values["hidden_size"]  # the default of GPT-2
    if not values.get("head_size") and type(values["heads"]) is int and values["heads"] > 0:
        values["head_size"] = values["hidden_size"] // values["heads"]
    return Sizes(**{role: size for role, size in values.items() if role != "experts" or size})


def active_parameters(model: PreTrainedModel) -> int:
    """Return the number of parameters that one token uses: all, except those of experts that it does not choose.

    Args:
        model: the model, whose tensors may be empty.
    """
    field = field_of(model.config, "experts")
    experts, active = (getattr(model.config, name, None) for name in (field or "", ACTIVE))
    share = active / experts if experts and active else 1.0
    return int(sum(values.numel() * (share if ".experts." in name else 1) for name, values in model.named_parameters()))


def head_size(config: PreTrainedConfig) -> int:
    """Return the number of channels of a head."""
    size = sizes_of(config).head_size
    assert size is not None
    return size


def score_factor(own: PreTrainedConfig, other: PreTrainedConfig) -> float:
    """Return by what to multiply queries for heads of another size, whose scores are divided by another number."""
    is_fixed = any(hasattr(own, name) for name in SCORE_SCALES) or not getattr(own, "scale_attn_weights", True)
    return 1.0 if is_fixed else (head_size(other) / head_size(own)) ** 0.5


def heads_make_width(config: PreTrainedConfig) -> bool:
    """Return whether the width is the number of heads times their size, because no field holds that size."""
    return field_of(config, "head_size") is None


def is_valid(config: PreTrainedConfig) -> bool:
    """Return whether transformers accepts a configuration. The width of a Llama must be a multiple of its heads."""
    try:
        config.validate()
    except StrictDataclassError:
        return False
    return True


def resized(config: PreTrainedConfig, sizes: Sizes, kept: Sequence[int] | None = None) -> Any:
    """Return a configuration of other sizes, and otherwise the same.

    Args:
        kept: the blocks that stay, by their old numbers; None: the first ones.
    """
    small = copy.deepcopy(config)
    if sizes.head_size is None and (head_field := field_of(config, "head_size")):
        setattr(small, head_field, head_size(config))
    if sizes.experts is not None:
        setattr(small, ACTIVE, min(getattr(config, ACTIVE), sizes.experts))
    old = sizes_of(config)
    apart = EMBEDDING_WIDTH if config.model_type in EMBEDDINGS_APART else None
    followers = [name for name in FOLLOW_WIDTH if name != apart and getattr(config, name, None) == old.hidden_size]
    for follower in followers if sizes.hidden_size is not None else ():
        setattr(small, follower, sizes.hidden_size)
    for role, size in sizes.given().items():
        name = field_of(config, role)
        assert name is not None or role == "head_size"
        if name is not None:
            setattr(small, name, size)
        elif sizes_of(small).head_size != size and not isinstance(getattr(type(small), "head_dim", None), property):
            small.head_dim = size  # which many classes read although they do not declare it
    if old.layers and sizes.layers is not None:
        kept = list(range(sizes.layers)) if kept is None else kept
        for setting, values in block_settings(config, old.layers).items():
            set_block_setting(small, setting, [values[index] for index in kept])
        follow_blocks(small, kept)
    return small


def set_block_setting(config: PreTrainedConfig, name: str, values: Sequence[Any]) -> None:
    """Change a list of a configuration that holds a setting for each block.

    Args:
        values: the settings, which become a list of the type that the configuration has.
    """
    setattr(config, name, type(getattr(config, name))(values))
    if name == "attention_layers":  # GPT-Neo derives it from a pattern, which is what it saves
        config.attention_types = [[[value], 1] for value in values]


def block_settings(config: PreTrainedConfig, count: int) -> dict[str, Any]:
    """Return the lists of a configuration that hold a setting for each of `count` blocks, by name."""
    settings = {name: getattr(config, name, None) for name in BLOCK_SETTINGS}
    return {name: values for name, values in settings.items() if values is not None and len(values) == count}
