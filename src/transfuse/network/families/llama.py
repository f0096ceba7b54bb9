"""Llama (Touvron et al., 2023), Mistral (Jiang et al., 2023), Qwen2 (Yang et al., 2024) and Phi-3 (Abdin et al., 2024).

All have RMSNorm, rotary positions, keys and values shared in groups, and a SwiGLU. Qwen2 has biases on queries, keys
and values; Phi-3 has fused projections; Granite multiplies branches by a factor; some layers of SmolLM3 have no
positions.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from transfuse.errors import SpecError
from transfuse.network.builder import Builder, Normed
from transfuse.network.families import decoder
from transfuse.network.families.parts import (
    Config,
    Readable,
    Trunk,
    bias_if,
    declared_setting,
    feed_forward,
    gated_feed_forward,
    gated_units,
    token_embedding,
)
from transfuse.network.families.parts_attention import (
    Attention,
    grouped_attention,
    normed_attention,
    queries_keys_values,
)
from transfuse.network.rotary_fields import PARTLY_ROTARY, rope_type
from transfuse.network.sizes import head_size
from transfuse.network.space import Axis, Space

Branch = Callable[[Builder, Config, int, str, Readable, Space], None]  # builder, config, layer, block, reads, writes
DeclareNorm = Callable[[Builder, str, Axis], Normed]


def pre_norm(
    attend: Branch, transform: Branch, norm: DeclareNorm = Builder.rms_norm, *, scaled: bool = False
) -> decoder.MakeTrunk:
    """Return a trunk of blocks with a norm in front of both branches.

    Args:
        scaled: whether the root of the width multiplies the embeddings of tokens.
    """

    def trunk(s: Builder, config: Config, p: str) -> Trunk:
        width = config.hidden_size
        factor = declared_setting(config, "residual_multiplier") or 1.0
        vocabulary, token = token_embedding(s, f"{p}embed_tokens", config, width, scaled=scaled)
        x = token
        for i in range(config.num_hidden_layers):
            block = f"{p}layers.{i}"
            attended = s.free(f"{i}.attention", width)
            mlp = s.free(f"{i}.mlp", width)
            s.part = "attention"
            attend(s, config, i, block, norm(s, f"{block}.input_layernorm", x), attended)
            x = s.join(f"{i}.middle", x, attended, factor)
            s.part = "ffn"
            transform(s, config, i, block, norm(s, f"{block}.post_attention_layernorm", x), mlp)
            x = s.join(f"{i}.out", x, mlp, factor)
        plain = norm is Builder.plain_norm
        return Trunk(vocabulary, token, x, lambda axis: norm(s, f"{p}norm", axis), plain)

    return trunk


def head_sizes(config: Config) -> tuple[int, int, int]:
    """Return the number of query heads, of groups of them that share keys and values, and of channels of a head."""
    return config.num_attention_heads, config.num_key_value_heads, head_size(config)


def normed_heads(s: Builder, config: Config, i: int, block: str, **options: Any) -> Attention:
    """Return query heads in groups behind norms of queries and keys, with the options of `normed_attention`."""
    norms = (f"{block}.self_attn.q_norm.weight", f"{block}.self_attn.k_norm.weight")
    return normed_attention(s, i, *head_sizes(config), *norms, **options)


def rotary_heads(s: Builder, config: Config, i: int) -> Attention:
    """Return query heads in groups, whose channels are rotary: all of them, or the share that the family reads."""
    settings = getattr(config, "rope_parameters", None) or {}
    share = settings.get("partial_rotary_factor", 1.0)
    if config.model_type not in PARTLY_ROTARY:
        kind = rope_type(settings)
        if share != 1 and kind not in ("default", "proportional"):
            raise SpecError(
                f"rope_parameters.partial_rotary_factor is {share} with rope_type {kind}, which transformers cannot run"
                f" in models of type {config.model_type}; remove it, or correct rope_type"
            )
        share = 1.0
    return grouped_attention(s, i, *head_sizes(config), int(head_size(config) * share))


def project(
    s: Builder, block: str, reads: Readable, axes: Attention, writes: Space, bias: str | None, out: str | None
) -> None:
    """Declare the four projections of attention.

    Args:
        bias: the name of the bias of the first three; None: there is none.
        out: the name of the bias of the last.
    """
    queries_keys_values(s, f"{block}.self_attn", reads, axes, bias)
    s.linear(f"{block}.self_attn.o_proj", axes.context, writes, out)


def attend(s: Builder, config: Config, i: int, block: str, reads: Readable, writes: Space) -> None:
    """Declare the attention of Llama and Mistral."""
    bias = bias_if(declared_setting(config, "attention_bias"))
    project(s, block, reads, rotary_heads(s, config, i), writes, bias, bias)


def transform(s: Builder, config: Config, i: int, block: str, reads: Readable, writes: Space) -> None:
    """Declare the SwiGLU."""
    names = (f"{block}.mlp.gate_proj", f"{block}.mlp.up_proj", f"{block}.mlp.down_proj")
    gated_feed_forward(
        s, i, reads, config.intermediate_size, writes, names, bias_if(declared_setting(config, "mlp_bias"))
    )


def _qwen2_attend(s: Builder, config: Config, i: int, block: str, reads: Readable, writes: Space) -> None:
    project(s, block, reads, rotary_heads(s, config, i), writes, "bias", None)


def _starcoder2_attend(s: Builder, config: Config, i: int, block: str, reads: Readable, writes: Space) -> None:
    bias = bias_if(config.use_bias)
    project(s, block, reads, rotary_heads(s, config, i), writes, bias, bias)


def _starcoder2_transform(s: Builder, config: Config, i: int, block: str, reads: Readable, writes: Space) -> None:
    names = (f"{block}.mlp.c_fc", f"{block}.mlp.c_proj")
    feed_forward(s, i, reads, config.intermediate_size, writes, names, bias_if(config.use_bias))


def _smollm3_attend(s: Builder, config: Config, i: int, block: str, reads: Readable, writes: Space) -> None:
    axes = grouped_attention(s, i, *head_sizes(config), None if config.no_rope_layers[i] else 0)
    bias = bias_if(config.attention_bias)
    project(s, block, reads, axes, writes, bias, bias)


def _phi3_attend(s: Builder, config: Config, i: int, block: str, reads: Readable, writes: Space) -> None:
    axes = rotary_heads(s, config, i)
    s.linear(f"{block}.self_attn.qkv_proj", reads, axes.q + axes.k + axes.v, bias=None)
    s.linear(f"{block}.self_attn.o_proj", axes.context, writes, bias=None)


def _phi3_transform(s: Builder, config: Config, i: int, block: str, reads: Readable, writes: Space) -> None:
    gate, up = gated_units(s, i, config.intermediate_size)
    s.linear(f"{block}.mlp.gate_up_proj", reads, gate + up, bias=None)
    s.linear(f"{block}.mlp.down_proj", up, writes, bias=None)


ARCHITECTURES = {
    **decoder.architectures("Llama", pre_norm(attend, transform)),
    **decoder.architectures("Mistral", pre_norm(attend, transform)),
    **decoder.architectures("Qwen2", pre_norm(_qwen2_attend, transform)),
    **decoder.architectures("Phi3", pre_norm(_phi3_attend, _phi3_transform)),
    **decoder.architectures("Granite", pre_norm(attend, transform)),
    **decoder.architectures("Gemma", pre_norm(attend, transform, partial(Builder.rms_norm, offset=1.0), scaled=True)),
    **decoder.architectures("Starcoder2", pre_norm(_starcoder2_attend, _starcoder2_transform, Builder.norm)),
    **decoder.architectures("SmolLM3", pre_norm(_smollm3_attend, transform)),
}
