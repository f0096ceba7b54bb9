"""Phi-1 and 2 (Gunasekar et al., 2023), GPT-J (Wang & Komatsuzaki, 2021), StableLM, Command R and Falcon.

Both branches of a block read the same norm. StableLM and Falcon also have variants with one norm for each branch, or
one branch after the other. GPT-J and Command R store the two channels of a rotary plane side by side.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from transfuse.errors import SpecError
from transfuse.network.builder import Builder
from transfuse.network.families import decoder
from transfuse.network.families.llama import Branch, DeclareNorm, head_sizes, project, rotary_heads, transform
from transfuse.network.families.parts import (
    Config,
    Readable,
    Trunk,
    bias_if,
    declared_setting,
    feed_forward,
    token_embedding,
)
from transfuse.network.families.parts_attention import (
    Attention,
    attention_with_heads,
    centered_attention,
    grouped_attention,
    head_major,
    queries_keys_values,
)
from transfuse.network.space import Space


@dataclass(frozen=True)
class Names:
    """The names of the token embedding, the blocks, the norms in front of both branches, and the last norm."""

    tokens: str
    blocks: str
    norms: tuple[str, str]
    last: str


def parallel(
    attend: Branch,
    transform: Branch,
    names: Callable[[Config], Names],
    norm: DeclareNorm = Builder.norm,
    *,
    is_parallel: Callable[[Config], bool] = lambda config: True,
) -> decoder.MakeTrunk:
    """Return a trunk of blocks whose branches read the same stream, through one norm or through two.

    Args:
        is_parallel: whether this is so; otherwise the second branch reads the stream behind the first.
    """

    def trunk(s: Builder, config: Config, p: str) -> Trunk:
        width = config.hidden_size
        called = names(config)
        vocabulary, token = token_embedding(s, f"{p}{called.tokens}", config, width)
        x = token
        for i in range(config.num_hidden_layers):
            block = f"{p}{called.blocks}.{i}"
            first, second = (f"{block}.{name}" for name in called.norms)
            attended = s.free(f"{i}.attention", width)
            mlp = s.free(f"{i}.mlp", width)
            s.part = "attention"
            h = norm(s, first, x)
            attend(s, config, i, block, h, attended)
            after = s.join(f"{i}.middle", x, attended)
            s.part = "ffn"
            if second != first:
                h = norm(s, second, x if is_parallel(config) else after)
            transform(s, config, i, block, h, mlp)
            x = s.join(f"{i}.out", after, mlp)
        return Trunk(vocabulary, token, x, lambda axis: norm(s, f"{p}{called.last}", axis))

    return trunk


def _named(names: Names) -> Callable[[Config], Names]:
    return lambda config: names


def _refuse(config: Config, field: str) -> None:
    if getattr(config, field):
        raise SpecError(f"{config.model_type}: models whose config.json has {field}: true are not supported")


# Phi


def _phi_attend(s: Builder, config: Config, i: int, block: str, reads: Readable, writes: Space) -> None:
    _refuse(config, "qk_layernorm")
    axes = rotary_heads(s, config, i)
    queries_keys_values(s, f"{block}.self_attn", reads, axes)
    s.linear(f"{block}.self_attn.dense", axes.context, writes)


def _phi_transform(s: Builder, config: Config, i: int, block: str, reads: Readable, writes: Space) -> None:
    feed_forward(s, i, reads, config.intermediate_size, writes, (f"{block}.mlp.fc1", f"{block}.mlp.fc2"))


# GPT-J


def _gptj_attend(s: Builder, config: Config, i: int, block: str, reads: Readable, writes: Space) -> None:
    heads, size = config.n_head, config.n_embd // config.n_head
    axes = grouped_attention(s, i, heads, heads, size, config.rotary_dim, interleaved=True)
    queries_keys_values(s, f"{block}.attn", reads, axes, bias=None)
    s.linear(f"{block}.attn.out_proj", axes.context, writes, bias=None)


def _gptj_transform(s: Builder, config: Config, i: int, block: str, reads: Readable, writes: Space) -> None:
    names = (f"{block}.mlp.fc_in", f"{block}.mlp.fc_out")
    feed_forward(s, i, reads, config.n_inner or 4 * config.n_embd, writes, names)


# StableLM


def _stablelm_attend(s: Builder, config: Config, i: int, block: str, reads: Readable, writes: Space) -> None:
    _refuse(config, "qk_layernorm")
    bias = bias_if(config.use_qkv_bias)
    project(s, block, reads, rotary_heads(s, config, i), writes, bias, None)


def _stablelm_names(config: Config) -> Names:
    second = "input_layernorm" if config.use_parallel_residual else "post_attention_layernorm"
    return Names("embed_tokens", "layers", ("input_layernorm", second), "norm")


# Command R


def _cohere_attend(s: Builder, config: Config, i: int, block: str, reads: Readable, writes: Space) -> None:
    if declared_setting(config, "use_qk_norm"):
        norms = (f"{block}.self_attn.q_norm.weight", f"{block}.self_attn.k_norm.weight")
        axes = centered_attention(s, i, *head_sizes(config), *norms)
    else:
        slides = config.model_type != "cohere2" or config.layer_types[i] == "sliding_attention"
        axes = grouped_attention(s, i, *head_sizes(config), None if slides else 0, interleaved=True)
    bias = bias_if(config.attention_bias)
    project(s, block, reads, axes, writes, bias, bias)


# Falcon


def _falcon_attend(s: Builder, config: Config, i: int, block: str, reads: Readable, writes: Space) -> None:
    bias = bias_if(config.bias)
    axes = _falcon_heads(s, config, i)
    one_group = config.multi_query and not config.new_decoder_architecture
    fused = axes.q + axes.k + axes.v if one_group else head_major(axes.q, axes.k, axes.v)
    s.linear(f"{block}.self_attention.query_key_value", reads, fused, bias)
    s.linear(f"{block}.self_attention.dense", axes.context, writes, bias)


def _falcon_heads(s: Builder, config: Config, i: int) -> Attention:
    heads, size = config.num_attention_heads, config.hidden_size // config.num_attention_heads
    if config.alibi:  # every head has a slope of its own
        if config.multi_query or config.new_decoder_architecture:
            raise SpecError("falcon: models with alibi whose heads share keys are not supported")
        return attention_with_heads(s, i, s.fixed(f"{i}.head", heads), size)
    groups = config.num_kv_heads if config.new_decoder_architecture else 1 if config.multi_query else heads
    return grouped_attention(s, i, heads, groups, size)


def _falcon_transform(s: Builder, config: Config, i: int, block: str, reads: Readable, writes: Space) -> None:
    names = (f"{block}.mlp.dense_h_to_4h", f"{block}.mlp.dense_4h_to_h")
    feed_forward(s, i, reads, config.ffn_hidden_size, writes, names, bias_if(config.bias))


def _falcon_names(config: Config) -> Names:
    norms = ("input_layernorm", "input_layernorm")
    if not config.parallel_attn:
        norms = ("input_layernorm", "post_attention_layernorm")
    elif (config.num_ln_in_parallel_attn or 2) == 2 and config.new_decoder_architecture:
        norms = ("ln_attn", "ln_mlp")
    return Names("word_embeddings", "h", norms, "ln_f")


_PHI = _named(Names("embed_tokens", "layers", ("input_layernorm", "input_layernorm"), "final_layernorm"))
_GPTJ = _named(Names("wte", "h", ("ln_1", "ln_1"), "ln_f"))
_COHERE = _named(Names("embed_tokens", "layers", ("input_layernorm", "input_layernorm"), "norm"))
_cohere = parallel(_cohere_attend, transform, _COHERE, partial(Builder.norm, bias=None))
_stablelm = parallel(
    _stablelm_attend, transform, _stablelm_names, is_parallel=lambda config: config.use_parallel_residual
)
_falcon = parallel(_falcon_attend, _falcon_transform, _falcon_names, is_parallel=lambda config: config.parallel_attn)
ARCHITECTURES = {
    **decoder.architectures("Phi", parallel(_phi_attend, _phi_transform, _PHI), language_bias="bias"),
    **decoder.architectures("GPTJ", parallel(_gptj_attend, _gptj_transform, _GPTJ), language_bias="bias"),
    **decoder.architectures("StableLm", _stablelm),
    **decoder.architectures("Cohere", _cohere),
    **decoder.architectures("Cohere2", _cohere),
    **decoder.architectures("Falcon", _falcon, tokens="classifier"),
}
