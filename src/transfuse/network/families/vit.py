"""ViT (Dosovitskiy et al., 2021), as transformers builds it: pre-norm, a class token, learned positions."""

from transformers import PretrainedConfig

from transfuse.network.space import Group
from transfuse.network.spec import Builder, Spec


def vit(config: PretrainedConfig) -> Spec:
    """ViTForImageClassification."""
    s = Builder("vit")
    width, heads, patch = config.hidden_size, config.num_attention_heads, config.patch_size
    patches = (config.image_size // patch) ** 2
    bias = "bias" if config.qkv_bias else None

    pixels = (s.fixed("channel", config.num_channels), s.fixed("row", patch), s.fixed("column", patch))
    one, places = s.fixed("one", 1), s.fixed("place", 1 + patches)
    embed, position, token = s.free("patch", width), s.free("position", width), s.free("class_token", width)
    s.linear("vit.embeddings.patch_embeddings.projection", pixels, embed)
    s.table("vit.embeddings.position_embeddings", (one, places), position)
    s.table("vit.embeddings.cls_token", (one, one), token)
    x = s.concatenate("tokens", s.join("embed", position, embed), token)

    for i in range(config.num_hidden_layers):
        p = f"vit.layers.{i}"
        head = s.free(f"{i}.head", heads)
        qk = s.free(f"{i}.qk", width // heads, Group.LINEAR, within=head)
        v = s.free(f"{i}.v", width // heads, Group.LINEAR, within=head)
        attention, hidden, mlp = (
            s.free(f"{i}.attention", width), s.free(f"{i}.hidden", config.intermediate_size), s.free(f"{i}.mlp", width),
        )  # fmt: skip

        h = s.norm(f"{p}.layernorm_before", x)
        s.linear(f"{p}.attention.q_proj", h, head * qk, bias)
        s.linear(f"{p}.attention.k_proj", h, head * ~qk, bias)
        s.linear(f"{p}.attention.v_proj", h, head * v, bias)
        s.linear(f"{p}.attention.o_proj", head * v, attention)
        x = s.join(f"{i}.middle", x, attention)

        h = s.norm(f"{p}.layernorm_after", x)
        s.linear(f"{p}.mlp.fc1", h, hidden)
        s.linear(f"{p}.mlp.fc2", hidden, mlp)
        x = s.join(f"{i}.out", x, mlp)

    h = s.norm("vit.layernorm", x)
    s.linear("classifier", h, s.fixed("class", config.num_labels))
    return s.build()
