"""GPT-2 (Radford et al., 2019): LayerNorm, learned positions, one fused projection, matrices stored [in, out]."""

from transfuse.network.builder import Builder
from transfuse.network.families import decoder
from transfuse.network.families.parts import Config, Trunk, attention


def trunk(s: Builder, config: Config, p: str) -> Trunk:
    """Everything but the head."""
    width = config.n_embd
    s.part = "embeddings"
    vocabulary, word, position = (
        s.fixed("vocabulary", config.vocab_size),
        s.free("word", width),
        s.free("position", width),
    )
    s.embedding(f"{p}wte", vocabulary, word)
    s.embedding(f"{p}wpe", s.fixed("place", config.n_positions), position)
    x = s.join("embed", word, position)
    for i in range(config.n_layer):
        block = f"{p}h.{i}"
        axes = attention(s, i, config.n_head, width // config.n_head)
        attended, mlp, hidden = (
            s.free(f"{i}.attention", width),
            s.free(f"{i}.mlp", width),
            s.free(f"{i}.hidden", config.n_inner or 4 * width),
        )

        s.part = "attention"
        h = s.norm(f"{block}.ln_1", x)
        s.linear(f"{block}.attn.c_attn", h, axes.q + axes.k + axes.v, transposed=True)
        s.linear(f"{block}.attn.c_proj", axes.context, attended, transposed=True)
        x = s.join(f"{i}.middle", x, attended)

        s.part = "ffn"
        h = s.norm(f"{block}.ln_2", x)
        s.linear(f"{block}.mlp.c_fc", h, hidden, transposed=True)
        s.linear(f"{block}.mlp.c_proj", hidden, mlp, transposed=True)
        x = s.join(f"{i}.out", x, mlp)
    return Trunk(vocabulary, word, x, lambda axis: s.norm(f"{p}ln_f", axis))


ARCHITECTURES = decoder.architectures("GPT2", trunk, "LMHeadModel", "classifier")
