"""SigLIP (Zhai et al., 2023) and the SigLIP 2 of the same classes: two towers, and a space that both project into.

The vision tower is pooled by attention of a learned probe and a feed-forward network. The sum of both is the embedding,
which is compared with that of the text. Therefore its mean counts, although its only norm would subtract it.
"""

from math import prod

from transfuse.network.builder import Builder, Normed
from transfuse.network.families.parts import Config, feed_forward
from transfuse.network.families.parts_attention import attention
from transfuse.network.families.parts_heads import linear_head
from transfuse.network.families.parts_images import pixels
from transfuse.network.families.parts_towers import text_tower, tower_blocks
from transfuse.network.patch_grid import patch_grid
from transfuse.network.space import Group, Space
from transfuse.network.spec import Spec
from transfuse.network.token_layout import Tokens


def siglip(config: Config) -> Spec:
    """SiglipModel."""
    s = Builder("siglip")
    vision = config.vision_config
    shared = _pool(s, vision, "vision_model.", _vision(s, vision, "vision_model."))
    text = text_tower(s, config.text_config, "text_model.")
    s.part = "head"
    s.linear("text_model.head", text, shared)
    s.parameter("logit_scale", s.fixed("one", 1))
    s.parameter("logit_bias", s.fixed("one", 1))
    return s.build()


def image_classifier(config: Config) -> Spec:
    """SiglipForImageClassification: its head reads the mean of the patches; nothing reads the pooling head."""
    s = Builder("siglip-vision")
    vision = config.vision_config
    h = _vision(s, vision, "vision_model.")
    if vision.vision_use_head:
        _pool(s, vision, "vision_model.", h)
    linear_head(s, h, "classifier", config.num_labels)
    return s.build()


def vision_model(config: Config) -> Spec:
    """SiglipVisionModel: its outputs are the last norm and the embedding."""
    s = Builder("siglip-vision")
    h = _vision(s, config, "")
    s.mark_as_output(h.norm)
    if config.vision_use_head:
        _pool(s, config, "", h)
        s.mark_as_output("head.layernorm")
    return s.build()


def text_model(config: Config) -> Spec:
    """SiglipTextModel: its outputs are the last norm and the embedding."""
    s = Builder("siglip-text")
    h = text_tower(s, config, "")
    s.mark_as_output(h.norm)
    s.part = "head"
    s.linear("head", h, s.free("shared", config.projection_size))
    return s.build()


ARCHITECTURES = {
    "SiglipModel": siglip,
    "SiglipForImageClassification": image_classifier,
    "SiglipVisionModel": vision_model,
    "SiglipTextModel": text_model,
}


def _vision(s: Builder, config: Config, p: str) -> Normed:
    """Declare everything from pixels to the last norm of the blocks."""
    width = config.hidden_size
    grid = patch_grid(config)
    s.tokens = Tokens(0, *grid)
    s.part = "embeddings"
    patch, position = (s.free(f"vision.{name}", width) for name in ("patch", "position"))
    s.linear(f"{p}embeddings.patch_embedding", pixels(s, config), patch)
    s.embedding(f"{p}embeddings.position_embedding", s.fixed("position_id", prod(grid)), position)
    x = s.join("vision.embed", position, patch)
    return tower_blocks(s, config, f"{p}encoder.", "vision", x, f"{p}post_layernorm")


def _pool(s: Builder, config: Config, p: str, h: Normed) -> Space:
    """Declare attention of a probe to all patches and a feed-forward network, and return the embedding."""
    width = config.hidden_size
    probe = s.free("probe", width, Group.ORTHOGONAL)
    pooled, mlp = s.free("pooled.attention", width), s.free("pooled.mlp", width)
    axes = attention(s, "pooled", config.num_attention_heads, width // config.num_attention_heads)
    s.part = "head"
    one = s.fixed("one", 1)
    s.table(f"{p}head.probe", (one, one), probe)
    maps = ((probe, axes.q), (h, axes.k), (h, axes.v))
    s.packed(f"{p}head.attention", maps, "in_proj_weight", "in_proj_bias")
    s.linear(f"{p}head.attention.out_proj", axes.context, pooled, observable=False)
    read = s.norm(f"{p}head.layernorm", pooled, keeps_mean=True)
    feed_forward(s, "pooled", read, config.intermediate_size, mlp, (f"{p}head.mlp.fc1", f"{p}head.mlp.fc2"))
    return s.join("shared", pooled, mlp)
