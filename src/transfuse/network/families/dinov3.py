"""DINOv3 (Siméoni et al., 2025): a ViT with layer scale, register tokens, and rotary positions of the patches."""

from transfuse.network.builder import Builder, Normed
from transfuse.network.families.parts import Config, bias_if, feed_forward, gated_feed_forward
from transfuse.network.families.parts_attention import grouped_attention
from transfuse.network.families.parts_images import patches
from transfuse.network.spec import Spec


def model(config: Config) -> Spec:
    """DINOv3ViTModel."""
    s = Builder("dinov3_vit")
    _trunk(s, config)
    return s.build()


ARCHITECTURES = {"DINOv3ViTModel": model}


def _trunk(s: Builder, config: Config) -> Normed:
    width = config.hidden_size
    heads = config.num_attention_heads
    projection = "patch_embeddings"
    x = patches(s, config, "embeddings.", ("cls_token",), False, projection, config.num_register_tokens)
    one = s.fixed("one", 1)
    s.table("embeddings.mask_token", (one, one), s.free("patch", width))
    for i in range(config.num_hidden_layers):
        block = f"model.layer.{i}"
        axes = grouped_attention(s, i, heads, heads, width // heads)
        attended = s.free(f"{i}.attention", width)
        mlp = s.free(f"{i}.mlp", width)

        s.part = "attention"
        h = s.norm(f"{block}.norm1", x)
        s.linear(f"{block}.attention.q_proj", h, axes.q, bias_if(config.query_bias))
        s.linear(f"{block}.attention.k_proj", h, axes.k, bias_if(config.key_bias))
        s.linear(f"{block}.attention.v_proj", h, axes.v, bias_if(config.value_bias))
        s.linear(f"{block}.attention.o_proj", axes.context, attended, bias_if(config.proj_bias))
        s.layer_scale(f"{block}.layer_scale1.lambda1", attended, f"{block}.attention.o_proj")
        x = s.join(f"{i}.middle", x, attended)

        s.part = "ffn"
        h = s.norm(f"{block}.norm2", x)
        gate, up, down = (f"{block}.mlp.{name}_proj" for name in ("gate", "up", "down"))
        bias = bias_if(config.mlp_bias)
        if config.use_gated_mlp:
            gated_feed_forward(s, i, h, config.intermediate_size, mlp, (gate, up, down), bias)
        else:
            feed_forward(s, i, h, config.intermediate_size, mlp, (up, down), bias)
        s.layer_scale(f"{block}.layer_scale2.lambda1", mlp, down)
        x = s.join(f"{i}.out", x, mlp)
    return s.norm("norm", x)
