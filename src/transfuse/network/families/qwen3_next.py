"""Qwen3-Next and Qwen3.5 (Qwen Team, 2025, 2026), dense and with experts, if every layer has full attention.

Attention has norms of queries and keys, positions on some channels, and a gate for each channel that a head writes.
Gains of norms are stored as g - 1. Layers of linear attention are not supported.
"""

from functools import partial

from transfuse.errors import SpecError
from transfuse.network.builder import Builder
from transfuse.network.families import decoder
from transfuse.network.families.llama import Branch, head_sizes, pre_norm, project, transform
from transfuse.network.families.parts import Config, Readable, Trunk, bias_if, experts, gated_feed_forward
from transfuse.network.families.parts_attention import gated_attention
from transfuse.network.sizes import head_size
from transfuse.network.space import Space

FULL = "full_attention"
NAMED = 3  # layers that a message lists


def _attend(s: Builder, config: Config, i: int, block: str, reads: Readable, writes: Space) -> None:
    rotary = int(head_size(config) * config.rope_parameters.get("partial_rotary_factor", 1.0))
    norms = (f"{block}.self_attn.q_norm.weight", f"{block}.self_attn.k_norm.weight")
    axes = gated_attention(s, i, *head_sizes(config), rotary, *norms)
    bias = bias_if(config.attention_bias)
    project(s, block, reads, axes, writes, bias, bias)


def _experts(s: Builder, config: Config, i: int, block: str, reads: Readable, writes: Space) -> None:
    """Declare experts and one that all tokens use, with its gate."""
    experts(s, i, block, reads, writes, config.num_experts, config.moe_intermediate_size)
    shared = f"{block}.mlp.shared_expert"
    names = (f"{shared}.gate_proj", f"{shared}.up_proj", f"{shared}.down_proj")
    gated_feed_forward(s, f"{i}.shared", reads, config.shared_expert_intermediate_size, writes, names)
    s.linear(f"{shared}_gate", reads, s.fixed("one", 1), bias=None)


def _dense_or_experts(s: Builder, config: Config, i: int, block: str, reads: Readable, writes: Space) -> None:
    is_dense = i in config.mlp_only_layers or (i + 1) % config.decoder_sparse_step or not config.num_experts
    (transform if is_dense else _experts)(s, config, i, block, reads, writes)


def _of_full_attention(transform: Branch) -> decoder.MakeTrunk:
    """Return a trunk that is declared only if all of its layers have full attention."""
    whole = pre_norm(_attend, transform, partial(Builder.rms_norm, offset=1.0))

    def trunk(s: Builder, config: Config, p: str) -> Trunk:
        others = {i: kind for i, kind in enumerate(config.layer_types) if kind != FULL}
        if others:
            named = ", ".join(map(str, [*others][:NAMED]))
            more = f" and {len(others) - NAMED} more" if len(others) > NAMED else ""
            kinds = " and ".join(sorted({*others.values()}))
            raise SpecError(
                f"{s.family}: layers {named}{more} have {kinds} (layer_types), which is not supported;"
                " models in which every layer has full_attention can be fused"
            )
        return whole(s, config, p)

    return trunk


_dense = decoder.architectures("Qwen3_5", _of_full_attention(transform))
_dense |= decoder.architectures("Qwen3_5Text", _of_full_attention(transform))
_mixtures = decoder.architectures("Qwen3_5Moe", _of_full_attention(_experts))
_mixtures |= decoder.architectures("Qwen3_5MoeText", _of_full_attention(_experts))
TEXT_ONLY = (  # the other classes also take images
    *("Qwen3_5ForCausalLM", "Qwen3_5TextForSequenceClassification", "Qwen3_5TextModel"),
    *("Qwen3_5MoeForCausalLM", "Qwen3_5MoeTextModel"),
)
ARCHITECTURES = {
    **decoder.architectures("Qwen3Next", _of_full_attention(_dense_or_experts)),
    **{name: declare for name, declare in (_dense | _mixtures).items() if name in TEXT_ONLY},
}
