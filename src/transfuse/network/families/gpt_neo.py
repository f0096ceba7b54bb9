"""GPT-Neo (Black et al., 2021): GPT-2 with separate projections, in which some layers see a window of tokens."""

from transfuse.network.builder import Builder
from transfuse.network.families import decoder
from transfuse.network.families.parts import Config, Trunk, feed_forward, token_embedding
from transfuse.network.families.parts_attention import attention, queries_keys_values


def trunk(s: Builder, config: Config, p: str) -> Trunk:
    """Declare everything but the head."""
    width, heads = config.hidden_size, config.num_heads
    vocabulary, token = token_embedding(s, f"{p}wte", config, width)
    position = s.free("position", width)
    s.embedding(f"{p}wpe", s.fixed("position_id", config.max_position_embeddings), position)
    x = s.join("embed", token, position)
    for i in range(config.num_layers):
        block = f"{p}h.{i}"
        axes = attention(s, i, heads, width // heads)
        attended = s.free(f"{i}.attention", width)
        mlp = s.free(f"{i}.mlp", width)

        s.part = "attention"
        h = s.norm(f"{block}.ln_1", x)
        queries_keys_values(s, f"{block}.attn.attention", h, axes, bias=None)
        s.linear(f"{block}.attn.attention.out_proj", axes.context, attended)
        x = s.join(f"{i}.middle", x, attended)

        s.part = "ffn"
        h = s.norm(f"{block}.ln_2", x)
        hidden = config.intermediate_size or 4 * width
        feed_forward(s, i, h, hidden, mlp, (f"{block}.mlp.c_fc", f"{block}.mlp.c_proj"))
        x = s.join(f"{i}.out", x, mlp)
    return Trunk(vocabulary, token, x, lambda axis: s.norm(f"{p}ln_f", axis))


ARCHITECTURES = decoder.architectures("GPTNeo", trunk, tokens="classifier")
