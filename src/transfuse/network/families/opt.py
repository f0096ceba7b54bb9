"""OPT (Zhang et al., 2022): learned positions, ReLU, and tokens that may be narrower than the stream (OPT-350m).

The norms of OPT-350m stand behind the residual additions, so that its stream can only be permuted. Biases and gains may
be absent.
"""

from transfuse.network.builder import Builder
from transfuse.network.families import decoder
from transfuse.network.families.parts import Config, Readable, Trunk, bias_if, feed_forward
from transfuse.network.families.parts_attention import attention, queries_keys_values
from transfuse.network.space import Axis, Space


def trunk(s: Builder, config: Config, p: str) -> Trunk:
    """Declare everything but the head."""
    width = config.hidden_size
    stack = f"{p}decoder"
    is_narrower = config.word_embed_proj_dim != width
    s.part = "embeddings"
    vocabulary = s.fixed("vocabulary", config.vocab_size)
    token = s.free("token", config.word_embed_proj_dim)
    position = s.free("position", width)
    s.embedding(f"{stack}.embed_tokens", vocabulary, token)
    s.embedding(f"{stack}.embed_positions", s.fixed("position_id", config.max_position_embeddings + 2), position)
    embedded = token
    if is_narrower:
        embedded = s.free("projected", width)
        s.linear(f"{stack}.project_in", token, embedded, bias=None)
    x = s.join("embed", embedded, position)
    for i in range(config.num_hidden_layers):
        x = _block(s, config, f"{stack}.layers.{i}", i, x)

    def last(axis: Axis) -> Readable:
        """Declare what follows the last block, given the stream or the input of a tied matrix."""
        has_norm = config.do_layer_norm_before and not config._remove_final_layer_norm
        normed: Readable = _norm(s, config, f"{stack}.final_layer_norm", x if is_narrower else axis) if has_norm else x
        if not is_narrower:
            return normed if has_norm else axis
        out = ~token if config.tie_word_embeddings else s.free("out", config.word_embed_proj_dim)
        s.linear(f"{stack}.project_out", normed, out, bias=None)
        return out

    return Trunk(vocabulary, token, x, last, plain_norm=not config.layer_norm_elementwise_affine)


def _block(s: Builder, config: Config, p: str, i: int, x: Space) -> Space:
    """Declare attention and a feed-forward network with their norms, and return the stream behind them."""
    axes = attention(s, i, config.num_attention_heads, config.hidden_size // config.num_attention_heads)
    attended = s.free(f"{i}.attention", config.hidden_size)
    mlp = s.free(f"{i}.mlp", config.hidden_size)
    bias = bias_if(config.enable_bias)

    s.part = "attention"
    h = _before(s, config, f"{p}.self_attn_layer_norm", x)
    queries_keys_values(s, f"{p}.self_attn", h, axes, bias)
    s.linear(f"{p}.self_attn.out_proj", axes.context, attended, bias)
    x = s.join(f"{i}.middle", x, attended)
    _behind(s, config, f"{p}.self_attn_layer_norm", x)

    s.part = "ffn"
    h = _before(s, config, f"{p}.final_layer_norm", x)
    feed_forward(s, i, h, config.ffn_dim, mlp, (f"{p}.fc1", f"{p}.fc2"), bias, config.activation_function)
    x = s.join(f"{i}.out", x, mlp)
    _behind(s, config, f"{p}.final_layer_norm", x)
    return x


def _before(s: Builder, config: Config, name: str, x: Space) -> Readable:
    """Return what a branch reads: the stream behind a norm, or the stream itself in OPT-350m."""
    return _norm(s, config, name, x) if config.do_layer_norm_before else x


def _behind(s: Builder, config: Config, name: str, x: Space) -> None:
    """Declare the norm behind a residual addition, which OPT-350m has."""
    if not config.do_layer_norm_before:
        s.post_norm(name, x)


def _norm(s: Builder, config: Config, name: str, axis: Axis) -> Readable:
    return s.norm(name, axis) if config.layer_norm_elementwise_affine else s.plain_norm(name, axis)


ARCHITECTURES = decoder.architectures("OPT", trunk)
