"""ViT (Dosovitskiy et al., 2021), as transformers builds it: pre-norm, a class token, learned positions."""

from collections.abc import Sequence

from transformers import PretrainedConfig

from transfuse.network.builder import Builder
from transfuse.network.space import Group
from transfuse.network.spec import Spec, Tokens


def vit(config: PretrainedConfig) -> Spec:
    """ViTForImageClassification."""
    s = Builder("vit")
    width, heads = config.hidden_size, config.num_attention_heads
    (high, wide), (rows, columns) = _pair(config.image_size), _pair(config.patch_size)
    s.tokens = Tokens(1, high // rows, wide // columns)
    bias = "bias" if config.qkv_bias else None

    s.part = "embeddings"
    pixels = (s.fixed("channel", config.num_channels), s.fixed("row", rows), s.fixed("column", columns))
    one, places = s.fixed("one", 1), s.fixed("place", 1 + (high // rows) * (wide // columns))
    embed, position, token = s.free("patch", width), s.free("position", width), s.free("class_token", width)
    s.linear("vit.embeddings.patch_embeddings.projection", pixels, embed)
    s.table("vit.embeddings.position_embeddings", (one, places), position)
    s.table("vit.embeddings.cls_token", (one, one), token)
    x = s.concatenate("tokens", s.join("embed", position, embed), token)

    for i in range(config.num_hidden_layers):
        p = f"vit.layers.{i}"
        last = i == config.num_hidden_layers - 1
        head = s.free(f"{i}.head", heads)
        qk = s.free(f"{i}.qk", width // heads, Group.LINEAR, within=head)
        v = s.free(f"{i}.v", width // heads, Group.LINEAR, within=head)
        attention, mlp = s.free(f"{i}.attention", width), s.free(f"{i}.mlp", width)
        hidden = s.free(f"{i}.hidden", config.intermediate_size)

        s.part = "attention"
        h = s.norm(f"{p}.layernorm_before", x)
        s.linear(f"{p}.attention.q_proj", h, head * qk, bias)
        s.linear(f"{p}.attention.k_proj", h, head * ~qk, bias)
        s.linear(f"{p}.attention.v_proj", h, head * v, bias)
        s.prefix_only = last  # the classifier reads the class token alone
        s.linear(f"{p}.attention.o_proj", head * v, attention)
        x = s.join(f"{i}.middle", x, attention)

        s.part = "ffn"
        h = s.norm(f"{p}.layernorm_after", x)
        s.linear(f"{p}.mlp.fc1", h, hidden)
        s.linear(f"{p}.mlp.fc2", hidden, mlp)
        x = s.join(f"{i}.out", x, mlp)

    s.part = "head"
    h = s.norm("vit.layernorm", x)
    s.linear("classifier", h, s.fixed("class", config.num_labels))
    return s.build()


def _pair(size: int | Sequence[int]) -> tuple[int, int]:
    """Height and width; transformers takes one number for both."""
    height, width = (size, size) if isinstance(size, int) else size
    return height, width
