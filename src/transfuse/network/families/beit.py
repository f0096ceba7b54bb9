"""BEiT (Bao et al., 2022): a ViT with layer scale and a bias for each head and relative position."""

from transfuse.network.builder import Builder, Normed
from transfuse.network.families.parts import Config, feed_forward
from transfuse.network.families.parts_attention import attention_with_heads
from transfuse.network.families.parts_heads import linear_head
from transfuse.network.families.parts_images import patches
from transfuse.network.patch_grid import patch_grid
from transfuse.network.space import Space
from transfuse.network.spec import Spec


def image_classifier(config: Config) -> Spec:
    """BeitForImageClassification."""
    s = Builder("beit")
    x = _trunk(s, config, "beit.")
    linear_head(s, _last_norm(s, config, "beit.", x), "classifier", config.num_labels)
    return s.build()


def model(config: Config) -> Spec:
    """BeitModel: its output is the stream, in front of the norm of the pooler if there is one."""
    s = Builder("beit")
    _last_norm(s, config, "", _trunk(s, config, ""))
    return s.build()


ARCHITECTURES = {"BeitForImageClassification": image_classifier, "BeitModel": model}


def _last_norm(s: Builder, config: Config, p: str, x: Space) -> Normed:
    s.part = "head"
    return s.norm(f"{p}pooler.layernorm" if config.use_mean_pooling else f"{p}layernorm", x)


def _trunk(s: Builder, config: Config, p: str) -> Space:
    width = config.hidden_size
    heads = config.num_attention_heads
    x = patches(s, config, f"{p}embeddings.", ("cls_token",), config.use_absolute_position_embeddings)
    if config.use_mask_token:
        one = s.fixed("one", 1)
        s.table(f"{p}embeddings.mask_token", (one, one), s.free("patch", width))
    rows, columns = patch_grid(config)
    distance = s.fixed("distance", (2 * rows - 1) * (2 * columns - 1) + 3)
    shared = None
    if config.use_shared_relative_position_bias:  # heads of all layers share a bias, so they are permuted together
        shared = s.free("head", heads)
        s.parameter(f"{p}shared_position_bias.relative_position_bias_table", distance, shared)
    for i in range(config.num_hidden_layers):
        block = f"{p}layers.{i}"
        head = shared or s.free(f"{i}.head", heads)
        axes = attention_with_heads(s, i, head, width // heads)
        attended = s.free(f"{i}.attention", width)
        mlp = s.free(f"{i}.mlp", width)

        s.part = "attention"
        h = s.norm(f"{block}.layernorm_before", x)
        s.linear(f"{block}.attention.q_proj", h, axes.q)
        s.linear(f"{block}.attention.k_proj", h, axes.k, bias=None)
        s.linear(f"{block}.attention.v_proj", h, axes.v)
        if config.use_relative_position_bias:
            s.parameter(f"{block}.relative_position_bias.relative_position_bias_table", distance, head)
        s.linear(f"{block}.attention.o_proj", axes.context, attended)
        if config.layer_scale_init_value > 0:
            s.layer_scale(f"{block}.lambda_1", attended, f"{block}.attention.o_proj")
        x = s.join(f"{i}.middle", x, attended)

        s.part = "ffn"
        h = s.norm(f"{block}.layernorm_after", x)
        feed_forward(s, i, h, config.intermediate_size, mlp, (f"{block}.mlp.fc1", f"{block}.mlp.fc2"))
        if config.layer_scale_init_value > 0:
            s.layer_scale(f"{block}.lambda_2", mlp, f"{block}.mlp.fc2")
        x = s.join(f"{i}.out", x, mlp)
    return x
