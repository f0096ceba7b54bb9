"""GPT-NeoX and Pythia (Biderman et al., 2023).

Queries, keys and values are fused head by head, positions are partly rotary, and both branches read the same stream.
"""

from transfuse.network.builder import Builder
from transfuse.network.families import decoder
from transfuse.network.families.parts import Config, Trunk, bias_if, feed_forward, token_embedding
from transfuse.network.families.parts_attention import grouped_attention, head_major


def trunk(s: Builder, config: Config, p: str) -> Trunk:
    """Declare everything but the head."""
    width = config.hidden_size
    heads = config.num_attention_heads
    size = width // heads
    rotary = int(size * config.rope_parameters["partial_rotary_factor"])
    bias = bias_if(config.attention_bias)
    vocabulary, token = token_embedding(s, f"{p}embed_in", config, width)
    x = token
    for i in range(config.num_hidden_layers):
        block = f"{p}layers.{i}"
        axes = grouped_attention(s, i, heads, heads, size, rotary)
        attended = s.free(f"{i}.attention", width)
        mlp = s.free(f"{i}.mlp", width)

        s.part = "attention"
        h = s.norm(f"{block}.input_layernorm", x)
        s.linear(f"{block}.attention.query_key_value", h, head_major(axes.q, axes.k, axes.v), bias)
        s.linear(f"{block}.attention.dense", axes.context, attended, bias)
        after = s.join(f"{i}.middle", x, attended)

        s.part = "ffn"
        h = s.norm(f"{block}.post_attention_layernorm", x if config.use_parallel_residual else after)
        names = (f"{block}.mlp.dense_h_to_4h", f"{block}.mlp.dense_4h_to_h")
        feed_forward(s, i, h, config.intermediate_size, mlp, names)
        x = s.join(f"{i}.out", after, mlp)
    return Trunk(vocabulary, token, x, lambda axis: s.norm(f"{p}final_layer_norm", axis))


ARCHITECTURES = decoder.architectures("GPTNeoX", trunk, tokens="classifier")
