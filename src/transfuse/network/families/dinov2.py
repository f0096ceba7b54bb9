"""DINOv2 (Oquab et al., 2023): a ViT with layer scale and, in the largest, a SwiGLU. It may have register tokens."""

from collections.abc import Callable

from transfuse.network.builder import Builder, Normed
from transfuse.network.families.parts import Config, bias_if, feed_forward, gated_feed_forward
from transfuse.network.families.parts_attention import attention, queries_keys_values
from transfuse.network.families.parts_images import patches
from transfuse.network.spec import Spec


def image_classifier(stem: str) -> Callable[[Config], Spec]:
    """Dinov2ForImageClassification and its kind: the head reads the class token and the mean of the patches."""

    def declare(config: Config) -> Spec:
        s = Builder(stem)
        h = _trunk(s, config, f"{stem}.")
        s.part = "head"
        s.linear("classifier", Normed(h.space + h.space, h.norm), s.fixed("class", config.num_labels))
        return s.build()

    return declare


def model(stem: str) -> Callable[[Config], Spec]:
    """Dinov2Model, Dinov2WithRegistersModel."""

    def declare(config: Config) -> Spec:
        s = Builder(stem)
        _trunk(s, config, "")
        return s.build()

    return declare


ARCHITECTURES = {
    "Dinov2ForImageClassification": image_classifier("dinov2"),
    "Dinov2Model": model("dinov2"),
    "Dinov2WithRegistersForImageClassification": image_classifier("dinov2_with_registers"),
    "Dinov2WithRegistersModel": model("dinov2_with_registers"),
}


def _trunk(s: Builder, config: Config, p: str) -> Normed:
    width = config.hidden_size
    has_registers = config.model_type == "dinov2_with_registers"
    registers = config.num_register_tokens if has_registers else None
    x = patches(s, config, f"{p}embeddings.", ("cls_token",), True, registers=registers)
    if has_registers or config.use_mask_token:
        s.table(f"{p}embeddings.mask_token", (s.fixed("one", 1),), s.free("patch", width))
    for i in range(config.num_hidden_layers):
        block = f"{p}encoder.layer.{i}"
        axes = attention(s, i, config.num_attention_heads, width // config.num_attention_heads)
        attended = s.free(f"{i}.attention", width)
        mlp = s.free(f"{i}.mlp", width)
        bias = bias_if(config.qkv_bias)

        s.part = "attention"
        h = s.norm(f"{block}.norm1", x)
        queries_keys_values(s, f"{block}.attention", h, axes, bias)
        s.linear(f"{block}.attention.o_proj", axes.context, attended)
        s.layer_scale(f"{block}.layer_scale1.lambda1", attended, f"{block}.attention.o_proj")
        x = s.join(f"{i}.middle", x, attended)

        s.part = "ffn"
        h = s.norm(f"{block}.norm2", x)
        units = int(width * config.mlp_ratio)
        if config.use_swiglu_ffn:
            names = (f"{block}.mlp.gate_proj", f"{block}.mlp.up_proj", f"{block}.mlp.down_proj")
            gated_feed_forward(s, i, h, (units * 2 // 3 + 7) // 8 * 8, mlp, names, "bias")
            last = names[-1]
        else:
            last = f"{block}.mlp.fc2"
            feed_forward(s, i, h, units, mlp, (f"{block}.mlp.fc1", last))
        s.layer_scale(f"{block}.layer_scale2.lambda1", mlp, last)
        x = s.join(f"{i}.out", x, mlp)
    s.part = "head"
    return s.norm(f"{p}layernorm", x)
