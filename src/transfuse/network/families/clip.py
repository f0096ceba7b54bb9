"""CLIP (Radford et al., 2021): two towers of pre-norm blocks, and a space that both project into.

The stream of the vision tower begins with a norm, whose gain allows only permutations; that of the text tower rotates.
"""

from math import prod

from transfuse.network.builder import Builder, Normed
from transfuse.network.families.parts import Config
from transfuse.network.families.parts_images import pixels
from transfuse.network.families.parts_towers import text_tower, tower_blocks
from transfuse.network.patch_grid import patch_grid
from transfuse.network.space import Group
from transfuse.network.spec import Spec
from transfuse.network.token_layout import Tokens


def clip(config: Config) -> Spec:
    """CLIPModel: the shared space may rotate, since both projections are normalized and compared."""
    s = Builder("clip")
    shared = s.free("shared", config.projection_dim, Group.ORTHOGONAL)
    text = text_tower(s, config.text_config, "text_model.")
    vision = _vision(s, config.vision_config, "vision_model.")
    s.part = "head"
    s.linear("text_projection", text, shared, bias=None)
    s.linear("visual_projection", vision, shared, bias=None)
    s.parameter("logit_scale")
    return s.build()


def vision_with_projection(config: Config) -> Spec:
    """CLIPVisionModelWithProjection: the shared space is fixed, since other towers use it."""
    s = Builder("clip-vision")
    vision = _vision(s, config, "vision_model.")
    s.part = "head"
    s.linear("visual_projection", vision, s.fixed("shared", config.projection_dim), bias=None)
    return s.build()


def text_with_projection(config: Config) -> Spec:
    """CLIPTextModelWithProjection."""
    s = Builder("clip-text")
    text = text_tower(s, config, "text_model.")
    s.part = "head"
    s.linear("text_projection", text, s.fixed("shared", config.projection_dim), bias=None)
    return s.build()


def vision_model(config: Config) -> Spec:
    """CLIPVisionModel."""
    s = Builder("clip-vision")
    _vision(s, config, "")
    return s.build()


def text_model(config: Config) -> Spec:
    """CLIPTextModel."""
    s = Builder("clip-text")
    text_tower(s, config, "")
    return s.build()


ARCHITECTURES = {
    "CLIPModel": clip,
    "CLIPVisionModelWithProjection": vision_with_projection,
    "CLIPTextModelWithProjection": text_with_projection,
    "CLIPVisionModel": vision_model,
    "CLIPTextModel": text_model,
}


def _vision(s: Builder, config: Config, p: str) -> Normed:
    width = config.hidden_size
    grid = patch_grid(config)
    s.tokens = Tokens(1, *grid)
    s.part = "embeddings"
    token, patch, position = (s.free(f"vision.{name}", width) for name in ("class_token", "patch", "position"))
    s.table(f"{p}embeddings.class_embedding", (), token)
    s.linear(f"{p}embeddings.patch_embedding", pixels(s, config), patch, bias=None)
    s.embedding(f"{p}embeddings.position_embedding", s.fixed("position_id", 1 + prod(grid)), position)
    x = s.join("vision.embed", position, s.concatenate("vision.tokens", patch, token))
    s.post_norm(f"{p}pre_layrnorm", x)
    return tower_blocks(s, config, f"{p}encoder.", "vision", x, f"{p}post_layernorm")
