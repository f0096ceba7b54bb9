"""The role of each field in config.json: which fields change what a model computes.

Every field counts except those listed here with a reason. A class of transformers reads only the fields that it
declares and those in `UNDECLARED_DEFAULTS`, so notes that users leave in config.json do not count. A class that a user
wrote may read any field, so for such a class every field counts.
"""

import re
from dataclasses import fields
from typing import Any

from transformers import PreTrainedConfig

from transfuse.network.families import FAMILIES
from transfuse.network.token_ids import LAST_TOKEN_CLASSIFIERS, TOKEN_IDS, TOKEN_IDS_READ, reads_token_id

# Sizes. Tensors show them, and `compatible.check_same_layers` decides which of them may differ.
SIZES = (
    "hidden_size",
    "embedding_size",
    "word_embed_proj_dim",
    "d_model",
    "n_embd",
    "dim",
    "intermediate_size",
    "d_ff",
    "n_inner",
    "hidden_dim",
    "ffn_hidden_size",
    "mlp_ratio",
    "moe_intermediate_size",
    "shared_expert_intermediate_size",
    "num_attention_heads",
    "num_heads",
    "n_head",
    "n_heads",
    "num_key_value_heads",
    "head_dim",
    "attention_head_size",
    "d_kv",
    "num_hidden_layers",
    "num_layers",
    "n_layer",
    "n_layers",
    "num_decoder_layers",
    "encoder_layers",
    "decoder_layers",
    "encoder_attention_heads",
    "decoder_attention_heads",
    "encoder_ffn_dim",
    "decoder_ffn_dim",
    "decoder_hidden_size",
    "decoder_intermediate_size",
    "decoder_num_attention_heads",
    "decoder_num_hidden_layers",
    "num_experts",
    "num_local_experts",
    "vocab_size",
    "max_position_embeddings",
    "n_positions",
    "projection_dim",
    "projection_size",
    "pooler_output_size",
    "pooler_hidden_size",
)
# Sizes that enter the function as well: the range of distances, how often blocks run.
SIZES_READ = {"deberta-v2": ("max_position_embeddings",), "albert": ("num_hidden_layers",)}
# Only training reads these: dropout, initial values, terms of the loss.
TRAINING = re.compile(
    r"\w*dropout\w*|\w+_pdrop|\w+_layerdrop|drop_path_rate|init_std|initializer_\w+|\w+_init_value|layerscale_value|problem_type"
    r"|router_aux_loss_coef|router_jitter_noise|sparse_prediction|sparse_pred_ignore_index|gradient_checkpointing"
    r"|sinusoidal_pos_embds|pos_embed_(shift|jitter|rescale)|apply_spec_augment|mask_(time|feature)_\w+|norm_pix_loss"
)
# These change what is stored or returned, how numbers are rounded, or the order of computation. `check_same_labels`
# compares the names of classes.
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
    "suppress_tokens",
    "begin_suppress_tokens",
    "median_filter_width",
    "_attn_implementation",
    "_experts_implementation",
)
# Other fields hold the same information and are compared: dense_act_fn, attention_layers, layer_types, sliding_window,
# rope_parameters.
REDUNDANT = (
    "feed_forward_proj",
    "attention_types",
    "use_sliding_window",
    "max_window_layers",
    "sliding_window_pattern",
    "_sliding_window_pattern",
    "global_attn_every_n_layers",
    "no_rope_layer_interval",
    "original_max_position_embeddings",
)
# Only heads that no family declares read these: segmentation, backbones, masked images, multiple choice.
UNDECLARED_HEADS = re.compile(
    r"encoder_stride|pool_scales|use_auxiliary_head|auxiliary_\w+|semantic_loss_ignore_index|add_fpn|apply_layernorm"
    r"|reshape_hidden_states|stage_names|_?out_(features|indices)|return_class_token|summary_\w+|use_weighted_layer_sum|classifier_proj_size"
)
UNDECLARED_LAYERS = re.compile(r"linear_\w+")  # only layers of linear attention read these
REVIEWED = (  # model types whose code was read to fill the tables of this file
    *LAST_TOKEN_CLASSIFIERS,
    *TOKEN_IDS_READ,
    "vit",
    "vit_mae",
    "deit",
    "dinov2",
    "beit",
    "clip",
    "clip_vision_model",
    "bert",
    "distilbert",
    "modernbert",
    "electra",
    "albert",
    "gte",
    "nomic_bert",
    "eurobert",
    "siglip",
    "siglip_vision_model",
    "siglip_text_model",
    "deberta-v2",
    "dinov2_with_registers",
    "dinov3_vit",
    "granite",
    "olmoe",
    "cohere",
    "cohere2",
    "qwen3_5_moe_text",
)
# Fields of `BOOKKEEPING` and `TRAINING` that change what these model types compute. If Falcon returns its attention
# weights, it adds a mask of booleans to the scores (transformers 5.24). ESM scales embeddings by the share of masks.
CHANGING = {"falcon": ("output_attentions",), "esm": ("token_dropout",)}
MODERNBERT_HEADS = ("ForMaskedLM", "ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering")
LANGUAGE_HEADS = (
    "ForCausalLM",
    "LMHeadModel",
    "ForMaskedLM",
    "BertForPreTraining",
    "ForConditionalGeneration",
    "MarianMTModel",
)
SEVERAL_EMBEDDINGS = ("BartModel", "BartForSequenceClassification", "BartForQuestionAnswering")  # which may be tied
HEAD_FIELDS = {  # fields that one head reads, with the endings of the names of the classes that have it
    "pooler_act": ("ViTModel", "DeiTModel"),
    "pooler_hidden_act": ("ForSequenceClassification",),
    "classifier_pooling": ("ForSequenceClassification",),
    "classifier_activation": MODERNBERT_HEADS,
    "classifier_bias": MODERNBERT_HEADS,
    "decoder_bias": ("ForMaskedLM",),
    "final_logit_softcapping": ("ForCausalLM",),
    "logits_scaling": ("ForCausalLM",),
    "logit_scale": ("ForCausalLM",),
    "tie_word_embeddings": (*LANGUAGE_HEADS, *SEVERAL_EMBEDDINGS),
    "scale_decoder_outputs": ("ForConditionalGeneration",),
}
# Fields that transformers reads from configurations that do not declare them, with the defaults that it uses.
UNDECLARED_DEFAULTS: dict[str, Any] = dict.fromkeys(
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
) | {
    "is_causal": True,
    "token_classification_bias": True,
    "position_buckets": -1,  # from here on, those of DeBERTa
    "share_att_key": False,
    "norm_rel_ebd": "none",
    "conv_kernel_size": 0,
    "conv_groups": 1,
    "conv_act": "tanh",
}
FAMILIES_MODULE = "transfuse.network.families"


def affects_output(name: str, config: PreTrainedConfig, architecture: str | None, reviewed: bool = True) -> bool:
    """Return whether a field of the configuration changes what its model computes.

    Args:
        reviewed: whether the code of the model was read for this file; see `is_reviewed`.
    """
    if name in (*SIZES_READ.get(config.model_type, ()), *CHANGING.get(config.model_type, ())):
        return True
    if name in SIZES or name in BOOKKEEPING or TRAINING.fullmatch(name):
        return False
    if name == "rope_parameters":
        return False  # its entries are compared separately
    if not reviewed:
        return True
    if TOKEN_IDS.fullmatch(name):
        return reads_token_id(name, config.model_type, architecture)
    if name in HEAD_FIELDS and architecture is not None:
        return architecture.endswith(HEAD_FIELDS[name])
    is_read = not UNDECLARED_HEADS.fullmatch(name) and not UNDECLARED_LAYERS.fullmatch(name)
    return is_read and name not in REDUNDANT


def fields_of_head(config: PreTrainedConfig) -> tuple[str, ...]:
    """Return the fields that only the head of a model reads, whichever head it has."""
    return (*HEAD_FIELDS, *(("pad_token_id",) if config.model_type in LAST_TOKEN_CLASSIFIERS else ()))


def is_reviewed(config: PreTrainedConfig, architecture: str | None) -> bool:
    """Return whether the code of the class was read for this file, which is not so for classes that users register."""
    declaration = FAMILIES.get(architecture or "")
    module = getattr(declaration, "func", declaration).__module__ if declaration else FAMILIES_MODULE
    return (
        module.startswith(FAMILIES_MODULE)
        and config.model_type in REVIEWED
        and type(config).__module__.startswith("transformers.")
    )


def known_fields(config: PreTrainedConfig) -> frozenset[str]:
    """Return the fields that a configuration class declares or derives, and those that transformers reads anyway."""
    declared = {field.name for field in fields(type(config))}
    changing = CHANGING.get(config.model_type, ())
    return frozenset(declared | {*vars(type(config)()), *changing} | UNDECLARED_DEFAULTS.keys())
