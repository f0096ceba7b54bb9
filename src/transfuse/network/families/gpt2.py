"""GPT-2 (Radford et al., 2019): LayerNorm, learned positions, one fused projection, matrices stored [in, out]."""

from transfuse.network.builder import Builder
from transfuse.network.families import decoder
from transfuse.network.families.parts import Config, Trunk, token_embedding
from transfuse.network.families.parts_attention import attention


def trunk(s: Builder, config: Config, p: str) -> Trunk:
    """Declare everything but the head."""
    width = config.n_embd
    vocabulary, token = token_embedding(s, f"{p}wte", config, width)
    position = s.free("position", width)
    s.embedding(f"{p}wpe", s.fixed("position_id", config.n_positions), position)
    x = s.join("embed", token, position)
    for i in range(config.n_layer):
        block = f"{p}h.{i}"
        axes = attention(s, i, config.n_head, width // config.n_head)
        attended = s.free(f"{i}.attention", width)
        mlp = s.free(f"{i}.mlp", width)
        hidden = s.free(f"{i}.hidden", config.n_inner or 4 * width)

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
    return Trunk(vocabulary, token, x, lambda axis: s.norm(f"{p}ln_f", axis))


ARCHITECTURES = decoder.architectures("GPT2", trunk, "LMHeadModel", "classifier")
