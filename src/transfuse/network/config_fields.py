"""Which fields of a configuration change what a model computes, and where two configurations differ in them.

Every field counts except those named here with a reason. A class of transformers reads no fields but those that it
declares and the few in `UNDECLARED`, so notes that users leave in config.json do not count. A class of a user's own may
read any field, so there notes count too.
"""

import copy
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

from transformers import PretrainedConfig

from transfuse.errors import TransfuseError
from transfuse.network.families import FAMILIES, declare
from transfuse.network.rotary_fields import reads_length, rotary

# Sizes: the tensors have them, and the declaration says which of them may differ.
SIZES = (
    "hidden_size",
    "d_model",
    "n_embd",
    "dim",
    "intermediate_size",
    "d_ff",
    "n_inner",
    "hidden_dim",
    "mlp_ratio",
    "moe_intermediate_size",
    "num_attention_heads",
    "num_heads",
    "n_head",
    "n_heads",
    "num_key_value_heads",
    "head_dim",
    "d_kv",
    "num_hidden_layers",
    "num_layers",
    "n_layer",
    "n_layers",
    "num_decoder_layers",
    "num_experts",
    "num_local_experts",
    "vocab_size",
    "max_position_embeddings",
    "n_positions",
    "projection_dim",
    "pooler_output_size",
)
# Training alone reads these: dropout, initial values, terms of the loss.
TRAINING = re.compile(
    r"\w*dropout\w*|\w+_pdrop|drop_path_rate|initializer_\w+|\w+_init_value|layerscale_value|problem_type"
    r"|router_aux_loss_coef|router_jitter_noise|sparse_prediction|sparse_pred_ignore_index|gradient_checkpointing"
)
# What is kept, returned or rounded, and in which order things are computed; names of classes have a check of their own.
BOOKKEEPING = (
    "architectures",
    "auto_map",
    "_name_or_path",
    "name_or_path",
    "transformers_version",
    "dtype",
    "torch_dtype",
    "quantization_config",
    "id2label",
    "label2id",
    "num_labels",
    "use_cache",
    "return_dict",
    "output_attentions",
    "output_hidden_states",
    "output_router_logits",
    "chunk_size_feed_forward",
    "pretraining_tp",
    "reorder_and_upcast_attn",
    "deterministic_flash_attn",
    "tie_last_hidden_states",
    "_attn_implementation",
    "_experts_implementation",
)
# Other fields say what these do, and they are compared: dense_act_fn, layer_types and sliding_window, rope_parameters.
SAID_TWICE = (
    "feed_forward_proj",
    "use_sliding_window",
    "max_window_layers",
    "sliding_window_pattern",
    "_sliding_window_pattern",
    "global_attn_every_n_layers",
    "original_max_position_embeddings",
)
# Heads that no family declares read these: segmentation, backbones, masked images, multiple choice.
OTHER_HEADS = re.compile(
    r"encoder_stride|pool_scales|use_auxiliary_head|auxiliary_\w+|semantic_loss_ignore_index|add_fpn|apply_layernorm"
    r"|reshape_hidden_states|stage_names|_?out_(features|indices)|summary_\w+"
)
TOKENS = re.compile(r"\w+_token_(id|index)")  # generation and tokenizers read these, and the models below
COUNTED = ("roberta", "xlm-roberta", "camembert", "roberta-prelayernorm")  # positions begin behind padding's number
READ_TOKENS = {
    "clip_text_model": ("eos_token_id",),
    "t5": ("eos_token_id", "pad_token_id", "decoder_start_token_id"),
    **dict.fromkeys(COUNTED, ("pad_token_id",)),
}
LAST_TOKEN = (  # their classifiers read the last token that is not padding
    "gpt2",
    "gpt_neox",
    "llama",
    "mistral",
    "mixtral",
    "qwen2",
    "qwen3",
    "qwen3_moe",
    "phi3",
    "gemma2",
    "gemma3_text",
    "olmo2",
)
READ = (
    *LAST_TOKEN,
    *READ_TOKENS,
    "vit",
    "deit",
    "dinov2",
    "beit",
    "clip",
    "clip_vision_model",
    "bert",
    "distilbert",
    "modernbert",
)  # model types whose code was read for this file
READ_BY = {  # settings of one head, by how the names of the classes end that have it
    "pooler_act": ("ViTModel", "DeiTModel"),
    "classifier_pooling": ("ForSequenceClassification",),
}
# What transformers looks for in configurations that do not declare it, and what it takes where there is nothing.
UNDECLARED: dict[str, Any] = dict.fromkeys(
    (
        "tie_word_embeddings",
        "is_decoder",
        "layer_types",
        "sliding_window",
        "attention_chunk_size",
        "per_layer_config",
        "use_bidirectional_attention",
        "decoder_start_token_id",
    )
) | {"is_causal": True, "token_classification_bias": True}
OURS = "transfuse.network.families"
CLASSIFIER = "ForSequenceClassification"
PAIRS = ("image_size", "patch_size")  # one number stands for both sides
SAME = {"swish": "silu"}  # two names of one activation


@dataclass(frozen=True)
class Difference:
    """A field that differs, by its path in config.json, and what it is in each."""

    path: str
    ours: Any
    theirs: Any


def differences(
    ours: PretrainedConfig, theirs: PretrainedConfig, architecture: str | None = None
) -> Iterator[Difference]:
    """Every field that changes the forward pass and differs, those of nested configurations too.

    Args:
        architecture: the class of both models; None: the one that the first configuration names.
    """
    architecture = architecture or next(iter(ours.architectures or ()), None)
    yield from _differences(ours, theirs, architecture, _foreign(ours, architecture), "")


def _differences(
    ours: PretrainedConfig, theirs: PretrainedConfig, architecture: str | None, foreign: bool, within: str
) -> Iterator[Difference]:
    both = [config.to_dict() for config in (ours, theirs)]
    named = both[0].keys() | both[1].keys()
    for name in sorted(named if foreign else named & known(ours)):
        inside, beside = getattr(ours, name, None), getattr(theirs, name, None)
        if isinstance(inside, PretrainedConfig) and isinstance(beside, PretrainedConfig):
            yield from _differences(inside, beside, architecture, foreign, f"{within}{name}.")
            continue
        one, other = (each.get(name, None if foreign else UNDECLARED.get(name)) for each in both)
        if _alike(name, one, other, foreign) or not counts(name, ours, architecture, foreign):
            continue
        if name == "layer_types" and len(one or ()) != len(other or ()):
            continue  # The models have different depths, which the comparison of layers says.
        if name == "pad_token_id" and ours.model_type not in READ_TOKENS and None in (one, other):
            continue  # A classifier without a padding token takes the other's.
        if name == "sliding_window" and not any(
            "sliding" in kind for config in (ours, theirs) for kind in _kinds(config)
        ):
            continue  # No layer of either has a window.
        if (foreign or name == "image_size") and _declared(ours, architecture, name, other):
            continue
        yield Difference(f"{within}{name}", one, other)
    yield from _rotary_differences(ours, theirs, foreign, within)


def _kinds(config: PretrainedConfig) -> list[str]:
    """The kinds of attention of the layers; where no configuration says them, any."""
    return list(getattr(config, "layer_types", None) or ["sliding"])


def counts(name: str, config: PretrainedConfig, architecture: str | None, foreign: bool = False) -> bool:
    """Whether a field that the configuration has changes what its model computes.

    Args:
        foreign: whether the model is not one of those whose code was read.
    """
    if name in SIZES or name in BOOKKEEPING or TRAINING.fullmatch(name):
        return False
    if foreign or name == "rope_parameters":
        return name != "rope_parameters"  # which are compared one by one
    if TOKENS.fullmatch(name):
        last = config.model_type in LAST_TOKEN and (architecture is None or CLASSIFIER in architecture)
        return name in READ_TOKENS.get(config.model_type, ("pad_token_id",) if last else ())
    if name in READ_BY and architecture is not None:
        return architecture.endswith(READ_BY[name])
    return name not in SAID_TWICE and not OTHER_HEADS.fullmatch(name)


def _foreign(config: PretrainedConfig, architecture: str | None) -> bool:
    """Whether users registered the class, so that nobody read its code for this file."""
    declaration = FAMILIES.get(architecture or "")
    module = getattr(declaration, "func", declaration).__module__ if declaration else OURS
    return (
        not module.startswith(OURS)
        or config.model_type not in READ
        or not type(config).__module__.startswith("transformers.")
    )


def known(config: PretrainedConfig) -> frozenset[str]:
    """The fields that a class of transformers declares, makes of them, or looks for all the same."""
    declared = {field.name for field in fields(type(config))}
    return frozenset(declared | {*vars(type(config)())} | UNDECLARED.keys())


def _declared(config: PretrainedConfig, architecture: str | None, name: str, value: object) -> bool:
    """Whether this is a size that changes the declared tensors, so that the comparison of layers judges it."""
    if any(isinstance(each, bool) or not isinstance(each, int) for each in (value, getattr(config, name, None))):
        return False
    changed = copy.deepcopy(config)
    try:
        setattr(changed, name, value)
        return declare(changed, architecture or "").tensors() != declare(config, architecture or "").tensors()
    except (TransfuseError, AttributeError):
        return False


def _rotary_differences(
    ours: PretrainedConfig, theirs: PretrainedConfig, foreign: bool, within: str
) -> Iterator[Difference]:
    """The settings of rotary positions, in one spelling."""
    both = [rotary(config, foreign) for config in (ours, theirs)]
    for name in sorted(both[0].keys() | both[1].keys(), key=lambda name: (not name.endswith("rope_type"), name)):
        if both[0].get(name) != both[1].get(name):
            yield Difference(f"{within}rope_parameters.{name}", both[0].get(name), both[1].get(name))
    lengths = [getattr(config, "max_position_embeddings", None) for config in (ours, theirs)]
    if lengths[0] != lengths[1] and any(map(reads_length, both)):
        yield Difference(f"{within}max_position_embeddings", *lengths)


def _alike(name: str, ours: object, theirs: object, foreign: bool) -> bool:
    """Whether two values say the same; transformers takes nothing for no."""
    no = all(value is None or value is False for value in (ours, theirs))
    return (no and not foreign) or _plain(name, ours) == _plain(name, theirs)


def _plain(name: str, value: object) -> object:
    """A value in the spelling that all equal values share."""
    if isinstance(value, str):
        return SAME.get(value, value)
    if name in PAIRS and isinstance(value, int):
        return [value, value]
    if isinstance(value, list | tuple):
        return [_plain("", each) for each in value]
    if isinstance(value, Mapping):
        return {str(key): _plain("", each) for key, each in value.items() if each is not None}
    return value
