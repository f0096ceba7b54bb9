"""Tiny random networks of every family; a new family joins all proofs with one line."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import transformers
from torch import Tensor
from torch.overrides import TorchFunctionMode
from transformers import PreTrainedModel

from transfuse.base.batch import cast
from transfuse.network.families import declare
from transfuse.network.inputs import example_inputs
from transfuse.network.layout import join_fused
from transfuse.network.outputs import model_output
from transfuse.network.spec import Spec


@dataclass(frozen=True)
class Case:
    """A class of transformers: how to build it, how to double it, and tensors that provably do nothing."""

    name: str
    architecture: type[PreTrainedModel]
    config: type
    sizes: Mapping[str, Any]
    double: tuple[str, ...]  # configuration entries that double when every width does; none: the width itself counts
    inert: tuple[str, ...] = ()  # keys' biases add a constant to every score of a query: softmax drops it
    inputs: Callable[..., dict[str, Tensor]] = field(default=example_inputs)

    def build(self, seed: int = 0, **changes: Any) -> PreTrainedModel:
        """A float64 model with gains and biases away from their initial values."""
        torch.manual_seed(seed)
        model = self.architecture(self.configure(**changes)).double().eval()
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name not in (model._keys_to_ignore_on_save or ()):
                    parameter.add_(0.3 * torch.randn_like(parameter))
        return model

    def configure(self, **changes: Any) -> Any:
        """The configuration; of two towers, changes are those of both."""
        sizes = {name: dict(value) if isinstance(value, Mapping) else value for name, value in self.sizes.items()}
        towers = [value for name, value in sizes.items() if name.endswith("_config")]
        for each in (*towers, sizes):
            each.update({name: value for name, value in changes.items() if name in each or not towers})
        return self.config(**sizes)

    def doubled(self) -> dict[str, int]:
        """Changes that double every width."""
        towers = [value for name, value in self.sizes.items() if name.endswith("_config")]
        return {name: 2 * (towers or [self.sizes])[0][name] for name in self.double}

    def spec(self, model: PreTrainedModel) -> Spec:
        return declare(model.config, type(model).__name__)

    @torch.no_grad()
    def logits(self, model: PreTrainedModel, tensors: Mapping[str, Tensor] | None = None) -> Tensor:
        """What it says; a model without a head, how its states lie to each other, whatever the basis."""
        if tensors is not None:
            model.load_state_dict(join_fused(self.spec(model), tensors))
        inputs = cast(self.inputs(model.config), torch.float64)
        with InDouble():
            states = model(**inputs)
            if "last_hidden_state" not in states or "text_embeds" in states or "image_embeds" in states:
                return model_output(model, inputs)
        return torch.cat([_gram(states[name]).flatten() for name in STATES if states.get(name) is not None])


class InDouble(TorchFunctionMode):
    """transformers computes some norms and rotations in float32 whatever the model's dtype; a proof needs more."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        double = {torch.float32: torch.float64}
        args = tuple(double.get(each, each) if isinstance(each, torch.dtype) else each for each in args)
        kwargs = {name: double.get(each, each) if isinstance(each, torch.dtype) else each
                  for name, each in (kwargs or {}).items()}  # fmt: skip
        return Tensor.double(*args) if func is Tensor.float else func(*args, **kwargs)


STATES = ("last_hidden_state", "pooler_output", "encoder_last_hidden_state")


def _gram(states: Tensor) -> Tensor:
    rows = states.flatten(0, -2)
    return rows @ rows.T / rows.shape[-1]


BLOCKS = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 37}
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
VIT = BLOCKS | NO_DROPOUT | {"image_size": 12, "patch_size": 4, "num_channels": 2, "num_labels": 5}
BEIT = VIT | {"use_mask_token": False, "use_absolute_position_embeddings": True, "use_mean_pooling": True,
              "layer_scale_init_value": 0.5}  # fmt: skip
DINO = VIT | {"mlp_ratio": 2, "use_mask_token": False}
WIDTHS = ("hidden_size", "num_attention_heads", "intermediate_size")
K_BIAS = ("k_proj.bias",)
REGISTERS = VIT | {"mlp_ratio": 2, "num_register_tokens": 3}
MAE = VIT | {"mask_ratio": 0.4, "decoder_hidden_size": 16, "decoder_num_hidden_layers": 1,
             "decoder_num_attention_heads": 2, "decoder_intermediate_size": 21}  # fmt: skip
MAE_WIDTHS = (*WIDTHS, "decoder_hidden_size", "decoder_num_attention_heads", "decoder_intermediate_size")
DINO3 = VIT | {"hidden_size": 16, "num_attention_heads": 2, "num_register_tokens": 3, "layerscale_value": 0.5}
BERT = BLOCKS | NO_DROPOUT | {"vocab_size": 31, "max_position_embeddings": 14, "num_labels": 2, "pad_token_id": 0}
DISTIL = {"dim": 24, "n_layers": 2, "n_heads": 3, "hidden_dim": 37, "vocab_size": 31, "max_position_embeddings": 12,
          "num_labels": 2, "dropout": 0.0, "attention_dropout": 0.0, "qa_dropout": 0.0}  # fmt: skip
DISTIL_WIDTHS = ("dim", "n_heads", "hidden_dim")
ELECTRA = BERT | {"embedding_size": 10}
ALBERT = BERT | {"embedding_size": 10, "num_hidden_layers": 3, "classifier_dropout_prob": 0.0}
MPNET = BERT | {"pad_token_id": 1}
DEBERTA = BERT | {"relative_attention": True, "pos_att_type": ["c2p", "p2c"], "position_buckets": 4,
                  "position_biased_input": False, "conv_kernel_size": 3, "conv_act": "gelu", "type_vocab_size": 2,
                  "share_att_key": True, "norm_rel_ebd": "layer_norm", "pooler_dropout": 0.0}  # fmt: skip
DEBERTA_OWN = DEBERTA | {"position_biased_input": True, "position_buckets": 16, "num_hidden_layers": 1}
IDS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
MODERN = BLOCKS | IDS | {"vocab_size": 31, "cls_token_id": 1, "sep_token_id": 2, "num_labels": 2, "local_attention": 6,
                         "global_attn_every_n_layers": 2}  # fmt: skip
MODERN_BIASED = MODERN | {"norm_bias": True, "attention_bias": True, "mlp_bias": True, "classifier_bias": True}
ESM = BERT | {"pad_token_id": 1, "mask_token_id": 4, "position_embedding_type": "rotary", "token_dropout": True}
CONTACTS = ("contact_head.regression[0].weight", "contact_head.regression[1].weight")
ESM_1B = ESM | {"position_embedding_type": "absolute", "emb_layer_norm_before": True}
GPT2 = IDS | {"n_embd": 24, "n_layer": 2, "n_head": 3, "n_inner": 37, "vocab_size": 31, "n_positions": 12,
              "num_labels": 5, "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}  # fmt: skip
NEO = IDS | {"hidden_size": 24, "num_layers": 2, "num_heads": 3, "intermediate_size": 37, "vocab_size": 31,
             "max_position_embeddings": 12, "num_labels": 5, "attention_types": [[["global", "local"], 1]],
             "window_size": 3}  # fmt: skip
NEO_WIDTHS = ("hidden_size", "num_heads", "intermediate_size")
BLOOM = IDS | {"hidden_size": 24, "n_layer": 2, "n_head": 3, "vocab_size": 31, "num_labels": 5}
GTE = BERT | {"max_position_embeddings": 32}
OPT = IDS | {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "ffn_dim": 37, "vocab_size": 31,
             "max_position_embeddings": 12, "num_labels": 5, "dropout": 0.0}  # fmt: skip
OPT_350M = {"word_embed_proj_dim": 10, "do_layer_norm_before": False}
OPT_PLAIN = {"enable_bias": False, "layer_norm_elementwise_affine": False}
OPT_WIDTHS = ("hidden_size", "num_attention_heads", "ffn_dim")
OPT_350M_WIDTHS = (*OPT_WIDTHS, "word_embed_proj_dim")
GPT2_WIDTHS = ("n_embd", "n_head", "n_inner")
ROPE = {"rope_type": "default", "rope_theta": 100.0, "partial_rotary_factor": 0.5}
NEOX = BLOCKS | IDS | {"vocab_size": 31, "num_labels": 5, "tie_word_embeddings": False, "rope_parameters": ROPE}
# Three groups of two query heads, and heads that are not the width divided by their number.
LLAMA = BLOCKS | IDS | {"num_attention_heads": 6, "num_key_value_heads": 3, "head_dim": 6, "vocab_size": 31,
                        "num_labels": 5, "max_position_embeddings": 32, "tie_word_embeddings": False}  # fmt: skip
TIED = {"tie_word_embeddings": True}
DECODER_WIDTHS = ("hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads")
EXPERT_WIDTHS = ("hidden_size", "num_attention_heads", "num_key_value_heads")
EXPERTS = LLAMA | {"experts_implementation": "eager", "num_local_experts": 3, "num_experts_per_tok": 2}
MOE = LLAMA | {
    "experts_implementation": "eager",
    "num_experts": 3,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 13,
    "norm_topk_prob": True,
}
T5 = {"d_model": 24, "d_kv": 7, "d_ff": 37, "num_layers": 2, "num_heads": 3, "vocab_size": 31, "num_labels": 2,
      "relative_attention_num_buckets": 8, "dropout_rate": 0.0, "classifier_dropout": 0.0, "pad_token_id": 0,
      "eos_token_id": 1, "decoder_start_token_id": 0}  # fmt: skip
T5_V1_1 = T5 | {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}
T5_WIDTHS = ("d_model", "num_heads", "d_ff")
BART = IDS | {"d_model": 18, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 3,
              "decoder_attention_heads": 2, "encoder_ffn_dim": 37, "decoder_ffn_dim": 29, "vocab_size": 31,
              "max_position_embeddings": 12, "num_labels": 2, "decoder_start_token_id": 2, "dropout": 0.0}  # fmt: skip
BART_WIDTHS = ("d_model", "encoder_attention_heads", "decoder_attention_heads", "encoder_ffn_dim", "decoder_ffn_dim")
WHISPER = BART | {"num_mel_bins": 5, "max_source_positions": 6, "max_target_positions": 12, "num_labels": 2}
CLIP_VISION = BLOCKS | {"image_size": 12, "patch_size": 4, "num_channels": 2, "projection_dim": 10}
CLIP_TEXT = BLOCKS | IDS | {"vocab_size": 31, "max_position_embeddings": 12, "projection_dim": 10}
CLIP = {"text_config": CLIP_TEXT, "vision_config": CLIP_VISION, "projection_dim": 10}


SIGLIP_BLOCKS = BLOCKS | {"hidden_size": 18, "num_hidden_layers": 1}
SIGLIP_VISION = SIGLIP_BLOCKS | {"image_size": 12, "patch_size": 4, "num_channels": 2}
SIGLIP_TEXT = SIGLIP_BLOCKS | IDS | {"vocab_size": 31, "max_position_embeddings": 12, "projection_size": 18}
SIGLIP = {"text_config": SIGLIP_TEXT, "vision_config": SIGLIP_VISION}


def case(
    architecture: str, sizes: Mapping[str, Any], double: tuple[str, ...], inert: tuple[str, ...] = (), **changes: Any
) -> Case:
    """A case called after its class and what is special about it."""
    found = getattr(transformers, architecture)
    name = "-".join([architecture, *(key for key in changes)])
    return Case(name, found, found.config_class, {**sizes, **changes}, double, inert)


CASES = [
    case("ViTForImageClassification", VIT, WIDTHS, K_BIAS),
    case("ViTForImageClassification", VIT, WIDTHS, qkv_bias=False),
    case("BertForMaskedLM", BERT, WIDTHS, ("key.bias",)),
    case("BertForMaskedLM", BERT, WIDTHS, ("key.bias",), tie_word_embeddings=False),
    case("BertForPreTraining", BERT, WIDTHS, ("key.bias",)),
    case("BertForSequenceClassification", BERT, WIDTHS, ("key.bias",)),
    case("DeiTForImageClassificationWithTeacher", VIT, WIDTHS, K_BIAS),
    case("Dinov2ForImageClassification", DINO, WIDTHS[:2], K_BIAS),
    case("Dinov2ForImageClassification", DINO, WIDTHS[:2], K_BIAS, use_swiglu_ffn=True),
    case("BeitForImageClassification", BEIT, WIDTHS, use_relative_position_bias=True),
    case("BeitForImageClassification", BEIT, WIDTHS, use_shared_relative_position_bias=True),
    case("CLIPModel", CLIP, (*WIDTHS, "projection_dim"), K_BIAS),
    case("CLIPVisionModelWithProjection", CLIP_VISION, WIDTHS, K_BIAS),
    case("RobertaForMaskedLM", BERT, WIDTHS, ("key.bias",)),
    case("DistilBertForMaskedLM", DISTIL, DISTIL_WIDTHS, ("k_lin.bias",)),
    case("ModernBertForMaskedLM", MODERN, WIDTHS),
    case("ModernBertForMaskedLM", MODERN_BIASED, WIDTHS, tie_word_embeddings=False),
    case("GPT2LMHeadModel", GPT2, GPT2_WIDTHS, ("c_attn[1].bias",)),
    case("GPT2LMHeadModel", GPT2, GPT2_WIDTHS, ("c_attn[1].bias",), tie_word_embeddings=False),
    case("GPTNeoXForCausalLM", NEOX, WIDTHS, ("query_key_value[3].bias",)),  # of the channels that are not rotary
    case("GPTNeoXForCausalLM", NEOX, WIDTHS, ("query_key_value[3].bias",), use_parallel_residual=False),
    case("GPTNeoXForCausalLM", NEOX, WIDTHS, ("query_key_value[3].bias",), hidden_size=18),  # half of 6 channels
    case("LlamaForCausalLM", LLAMA, DECODER_WIDTHS),
    case("LlamaForCausalLM", LLAMA | TIED, DECODER_WIDTHS, attention_bias=True, mlp_bias=True),
    case("MistralForCausalLM", LLAMA, DECODER_WIDTHS),
    case("Qwen2ForCausalLM", {**LLAMA, "head_dim": 4}, DECODER_WIDTHS),
    case("Qwen3ForCausalLM", LLAMA, DECODER_WIDTHS),
    case("Gemma2ForCausalLM", LLAMA | TIED, ()),
    case("Gemma3ForCausalLM", LLAMA | TIED, ()),
    case("Phi3ForCausalLM", {**LLAMA, "head_dim": 4}, DECODER_WIDTHS),
    case("Olmo2ForCausalLM", {**LLAMA, "head_dim": 4}, DECODER_WIDTHS),
    case("MixtralForCausalLM", EXPERTS, EXPERT_WIDTHS),
    case("Qwen3MoeForCausalLM", MOE, EXPERT_WIDTHS),
    case("T5ForConditionalGeneration", T5, ()),
    case("T5ForConditionalGeneration", T5_V1_1, T5_WIDTHS),
    case("ElectraForMaskedLM", ELECTRA, (*WIDTHS, "embedding_size"), ("key.bias",)),
    case("ElectraForPreTraining", ELECTRA, (*WIDTHS, "embedding_size"), ("key.bias",)),
    case("DebertaV2ForMaskedLM", DEBERTA, WIDTHS),
    case("AlbertForMaskedLM", ALBERT, (*WIDTHS, "embedding_size"), ("key.bias",)),
    case("WhisperForConditionalGeneration", WHISPER, ()),
    case("SiglipModel", SIGLIP, (*WIDTHS, "projection_size"), (*K_BIAS, "attention[1].in_proj_bias")),
    case("BartForConditionalGeneration", BART, (), K_BIAS),
    case("MBartForConditionalGeneration", BART, BART_WIDTHS, K_BIAS),
    case("DebertaV2ForMaskedLM", DEBERTA_OWN, WIDTHS, ("pos_key_proj.bias",), share_att_key=False),
    case("DebertaV2ForMaskedLM", DEBERTA_OWN, WIDTHS, ("pos_key_proj.bias",), share_att_key=False, norm_rel_ebd="none"),
    case("Dinov2WithRegistersForImageClassification", REGISTERS, WIDTHS[:2], (*K_BIAS, "mask_token")),
    case("DINOv3ViTModel", DINO3, WIDTHS, ("mask_token",)),
    case("DINOv3ViTModel", DINO3, WIDTHS, ("mask_token",), use_gated_mlp=True, key_bias=True),
    case("MPNetForMaskedLM", MPNET, WIDTHS, ("attn.k.bias",)),
    case("ViTMAEForPreTraining", MAE, MAE_WIDTHS, K_BIAS),
    case("MarianMTModel", BART, (), K_BIAS),
    case("PegasusForConditionalGeneration", BART, BART_WIDTHS, K_BIAS),
    case("M2M100ForConditionalGeneration", BART, (), K_BIAS),
    case("MT5ForConditionalGeneration", T5 | {"feed_forward_proj": "gated-gelu"}, T5_WIDTHS),
    case("UMT5ForConditionalGeneration", T5_V1_1, T5_WIDTHS),
    case("OPTForCausalLM", OPT, OPT_WIDTHS, K_BIAS),
    case("OPTForCausalLM", OPT, OPT_350M_WIDTHS, K_BIAS, **OPT_350M),
    case("OPTForCausalLM", OPT | OPT_350M, OPT_350M_WIDTHS, K_BIAS, tie_word_embeddings=False),
    case("OPTForCausalLM", OPT | OPT_PLAIN, (), activation_function="gelu"),
    case("GPTNeoForCausalLM", NEO, NEO_WIDTHS),
    case("BloomForCausalLM", BLOOM, (), ("query_key_value[1].bias",)),
    case("GteForMaskedLM", GTE, WIDTHS),
    case("NomicBertForMaskedLM", GTE, WIDTHS, head_dim=8),
    case("EsmForMaskedLM", ESM, WIDTHS, CONTACTS),
    case("EsmForMaskedLM", ESM_1B, WIDTHS, ("key.bias", *CONTACTS), tie_word_embeddings=False),
]

# Decoders like those above.
SMALL = IDS | {"hidden_size": 18, "intermediate_size": 13, "num_hidden_layers": 1, "num_attention_heads": 6,
               "num_key_value_heads": 3, "head_dim": 4, "vocab_size": 31, "num_labels": 5,
               "max_position_embeddings": 32, "tie_word_embeddings": False}  # fmt: skip
WHOLE = {name: value for name, value in SMALL.items() if name != "head_dim"} | {"hidden_size": 24}
OLMOE = WHOLE | {"experts_implementation": "eager", "num_experts": 3, "num_experts_per_tok": 2}
GRANITE = SMALL | {"embedding_multiplier": 3.0, "residual_multiplier": 0.3, "attention_multiplier": 0.4,
                   "logits_scaling": 2.0}  # fmt: skip
SMOL = SMALL | {"num_hidden_layers": 2, "no_rope_layers": [1, 0]}
STARCODER = WHOLE | {"sliding_window": 5}
PARTIAL = WHOLE | {"rope_parameters": ROPE}
GPTJ = GPT2 | {"n_layer": 1, "n_inner": 13, "rotary_dim": 4}
COHERE2 = WHOLE | {"num_hidden_layers": 2, "layer_types": ["sliding_attention", "full_attention"], "sliding_window": 5}
OLMO3 = LLAMA | {"head_dim": 4, "layer_types": ["sliding_attention", "full_attention"], "sliding_window": 5}
FALCON = IDS | {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 6, "num_kv_heads": 3,
                "ffn_hidden_size": 13, "vocab_size": 31, "num_labels": 5, "new_decoder_architecture": True,
                "tie_word_embeddings": False}  # fmt: skip
FALCON_RW = FALCON | {"new_decoder_architecture": False, "multi_query": False, "parallel_attn": False, "bias": True,
                      "num_kv_heads": 6}  # fmt: skip
FALCON_WIDTHS = ("hidden_size", "num_attention_heads", "ffn_hidden_size", "num_kv_heads")
NOT_ROTARY = ("k_proj[1].bias",)
SINKS = SMALL | {"num_hidden_layers": 2, "sliding_window": 5, "num_local_experts": 3, "num_experts_per_tok": 2,
                 "experts_implementation": "eager", "swiglu_limit": 0.7,
                 "rope_parameters": {"rope_type": "default", "rope_theta": 100.0}}  # fmt: skip
GATED = SMALL | {"head_dim": 8, "layer_types": ["full_attention"], "rope_parameters": ROPE}
GATED_EXPERTS = GATED | {"experts_implementation": "eager", "num_experts": 3, "num_experts_per_tok": 2,
                         "moe_intermediate_size": 13, "shared_expert_intermediate_size": 11}  # fmt: skip
GATED_EXPERT_WIDTHS = (*EXPERT_WIDTHS, "shared_expert_intermediate_size")
CASES += [
    case("OlmoForCausalLM", WHOLE, DECODER_WIDTHS),
    case("OlmoForCausalLM", WHOLE | TIED, (), attention_bias=True),
    case("OlmoForCausalLM", WHOLE, DECODER_WIDTHS, clip_qkv=0.7),
    case("Olmo3ForCausalLM", OLMO3, DECODER_WIDTHS),
    case("EuroBertForMaskedLM", SMALL, DECODER_WIDTHS),
    case("EuroBertForMaskedLM", SMALL | TIED, DECODER_WIDTHS, mlp_bias=True),
    case("OlmoeForCausalLM", OLMOE, EXPERT_WIDTHS),
    case("OlmoeForCausalLM", OLMOE, EXPERT_WIDTHS, clip_qkv=0.7),
    case("GraniteForCausalLM", GRANITE, DECODER_WIDTHS),
    case("SmolLM3ForCausalLM", SMOL, DECODER_WIDTHS),
    case("GemmaForCausalLM", SMALL | TIED, ()),
    case("Starcoder2ForCausalLM", STARCODER, DECODER_WIDTHS),
    case("PhiForCausalLM", PARTIAL, DECODER_WIDTHS, NOT_ROTARY),
    case("GPTJForCausalLM", GPTJ, GPT2_WIDTHS),
    case("StableLmForCausalLM", PARTIAL, DECODER_WIDTHS, NOT_ROTARY, use_qkv_bias=True),
    case("StableLmForCausalLM", PARTIAL, DECODER_WIDTHS, use_parallel_residual=True),
    case("CohereForCausalLM", WHOLE | TIED, DECODER_WIDTHS),
    case("CohereForCausalLM", WHOLE, DECODER_WIDTHS, use_qk_norm=True),
    case("Cohere2ForCausalLM", COHERE2, DECODER_WIDTHS),
    case("FalconForCausalLM", FALCON, FALCON_WIDTHS),
    case("FalconForCausalLM", FALCON, (), multi_query=True, new_decoder_architecture=False),
    case("FalconForCausalLM", FALCON_RW, (), ("query_key_value[1].bias",), alibi=True),
    case("GptOssForCausalLM", SINKS, EXPERT_WIDTHS),
    case("Qwen3NextForCausalLM", GATED_EXPERTS, GATED_EXPERT_WIDTHS),
    case("Qwen3_5ForCausalLM", GATED, DECODER_WIDTHS),
    case("Qwen3_5ForCausalLM", GATED, DECODER_WIDTHS, head_dim=6),  # half of which is an odd number of rotary channels
    case("Qwen3_5ForCausalLM", GATED | TIED, DECODER_WIDTHS, attention_bias=True),
    case("Qwen3_5MoeForCausalLM", GATED_EXPERTS, GATED_EXPERT_WIDTHS),
]

HEADLESS = ("CLIPVisionModelWithProjection", "DINOv3ViTModel", "ViTMAE")  # cases without scores of anything
TEXT_HEADS = ("ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering", "Model")
TWO = {"num_labels": 2}


def image_inputs(config: Any, seed: int = 0) -> dict[str, Tensor]:
    """What the vision tower takes."""
    return example_inputs(config.vision_config, seed)


def others(stem: str, sizes: Mapping[str, Any], endings: tuple[str, ...] = TEXT_HEADS) -> list[Case]:
    """Every further class that transformers has of a family."""
    return [case(f"{stem}{ending}", sizes, ()) for ending in endings if hasattr(transformers, f"{stem}{ending}")]


# The same trunks under other heads, which the proofs of symmetry and completeness go through too.
HEADS = [
    *others("ViT", VIT, ("Model",)), *others("ViT", VIT | {"pooler_act": "gelu"}, ("Model",)),
    *others("DeiT", VIT, ("ForImageClassification", "Model")),
    *others("Dinov2", DINO, ("Model",)), *others("Beit", BEIT, ("Model",)),
    *others("Beit", BEIT | {"use_mean_pooling": False, "use_mask_token": True}, ("ForImageClassification",)),
    *others("CLIPVision", CLIP_VISION, ("Model",)), *others("CLIPText", CLIP_TEXT, ("Model", "ModelWithProjection")),
    *others("Bert", BERT, TEXT_HEADS[1:]), *others("Roberta", BERT),
    *others("XLMRoberta", BERT, ("ForMaskedLM", *TEXT_HEADS)),
    *others("Camembert", BERT, ("ForMaskedLM", *TEXT_HEADS)),
    *others("DistilBert", DISTIL), *others("ModernBert", MODERN), *others("GPT2", GPT2 | TWO),
    *others("GPTNeoX", NEOX | TWO), *others("Llama", LLAMA | TWO), *others("Mistral", LLAMA | TWO),
    *others("Qwen2", LLAMA | TWO | {"head_dim": 4}), *others("Qwen3", LLAMA | TWO),
    *others("Gemma2", LLAMA | TIED | TWO),
    *others("Phi3", LLAMA | TWO | {"head_dim": 4}), *others("Olmo2", LLAMA | TWO | {"head_dim": 4}),
    *others("Gemma3Text", LLAMA | TIED | TWO, ("ForSequenceClassification", "Model")),
    *others("Mixtral", EXPERTS | TWO), *others("Qwen3Moe", MOE | TWO), *others("T5", T5 | {"eos_token_id": 1}),
    *others("MT5", T5, (*TEXT_HEADS, "EncoderModel")), *others("UMT5", T5, (*TEXT_HEADS, "EncoderModel")),
    *others("T5", T5, ("EncoderModel",)),
    *others("Electra", ELECTRA), *others("Electra", ELECTRA | {"embedding_size": 24}, ("ForMaskedLM",)),
    *others("DebertaV2", DEBERTA), *others("DebertaV2", DEBERTA | {"pooler_hidden_act": "tanh"}, TEXT_HEADS[:1]),
    *others("Bart", BART), *others("MBart", BART), *others("Pegasus", BART, ("Model",)),
    *others("M2M100", BART, ("Model",)),
    *others("M2M100", BART | {"tie_word_embeddings": False}, ("ForConditionalGeneration",)),
    *(replace(each, inputs=image_inputs) for each in others("Siglip", SIGLIP, ("ForImageClassification",))),
    *others("SiglipVision", SIGLIP_VISION, ("Model",)), *others("SiglipText", SIGLIP_TEXT, ("Model",)),
    *others("Albert", ALBERT, TEXT_HEADS),
    *others("Albert", ALBERT | {"num_hidden_groups": 3, "inner_group_num": 2}, ("ForMaskedLM",)),
    *others("Whisper", WHISPER, ("Model",)), *others("GPTNeo", NEO | TWO), *others("Bloom", BLOOM | TWO),
    *others("Gte", GTE | {"type_vocab_size": 0}), *others("NomicBert", GTE), *others("EuroBert", SMALL | TWO),
    *others("Olmo3", OLMO3 | TWO), *others("OPT", OPT | TWO), *others("OPT", OPT | OPT_350M, ("Model",)),
    *others("Esm", ESM), *others("Esm", ESM_1B),
    *others("Whisper", WHISPER | {"tie_word_embeddings": False}, ("ForConditionalGeneration",)),
    *others("MPNet", MPNET), *others("ViTMAE", MAE, ("Model",)),
    *others("Dinov2WithRegisters", REGISTERS, ("Model",)),
    *others("Dinov2WithRegisters", REGISTERS | {"num_register_tokens": 0, "use_swiglu_ffn": True}, ("Model",)),
    *others("Olmo", WHOLE | TWO), *others("Olmoe", OLMOE | TWO), *others("Granite", GRANITE | TWO),
    *others("SmolLM3", SMOL | TWO), *others("Gemma", SMALL | TIED | TWO), *others("Starcoder2", STARCODER | TWO),
    *others("Phi", PARTIAL | TWO), *others("GPTJ", GPTJ | TWO), *others("StableLm", PARTIAL | TWO),
    *others("Cohere", WHOLE | TWO), *others("Cohere2", COHERE2 | TWO), *others("Falcon", FALCON | TWO),
    *others("GptOss", SINKS | TWO), *others("Qwen3Next", GATED_EXPERTS | TWO),
    *others("Qwen3Next", GATED | TWO | {"mlp_only_layers": [0]}, ("Model",)),
    *others("Qwen3_5Text", GATED | TWO, ("ForSequenceClassification", "Model")),
    *others("Qwen3_5MoeText", GATED_EXPERTS, ("Model",)),
]  # fmt: skip
