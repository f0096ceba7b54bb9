"""BLOOM (BigScience Workshop, 2022): a norm behind the embeddings, and a fixed slope of distances for each head."""

from transfuse.errors import SpecError
from transfuse.network.builder import Builder
from transfuse.network.families import decoder
from transfuse.network.families.parts import Config, Trunk, feed_forward, token_embedding
from transfuse.network.families.parts_attention import attention_with_heads, head_major


def trunk(s: Builder, config: Config, p: str) -> Trunk:
    """Declare everything but the head."""
    if config.apply_residual_connection_post_layernorm:
        raise SpecError(
            "bloom: models whose config.json has apply_residual_connection_post_layernorm: true are not supported"
        )
    width, heads = config.hidden_size, config.n_head
    vocabulary, token = token_embedding(s, f"{p}word_embeddings", config, width)
    s.post_norm(f"{p}word_embeddings_layernorm", token)
    x = token
    for i in range(config.n_layer):
        block = f"{p}h.{i}"
        axes = attention_with_heads(s, i, s.fixed(f"{i}.head", heads), width // heads)
        attended = s.free(f"{i}.attention", width)
        mlp = s.free(f"{i}.mlp", width)

        s.part = "attention"
        h = s.norm(f"{block}.input_layernorm", x)
        s.linear(f"{block}.self_attention.query_key_value", h, head_major(axes.q, axes.k, axes.v))
        s.linear(f"{block}.self_attention.dense", axes.context, attended)
        x = s.join(f"{i}.middle", x, attended)

        s.part = "ffn"
        h = s.norm(f"{block}.post_attention_layernorm", x)
        feed_forward(s, i, h, 4 * width, mlp, (f"{block}.mlp.dense_h_to_4h", f"{block}.mlp.dense_4h_to_h"))
        x = s.join(f"{i}.out", x, mlp)
    return Trunk(vocabulary, token, x, lambda axis: s.norm(f"{p}ln_f", axis))


ARCHITECTURES = decoder.architectures("Bloom", trunk, tokens="classifier")
