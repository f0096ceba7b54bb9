"""The towers of CLIP and SigLIP: that of texts, and the blocks and last norm of both."""

from transfuse.network.builder import Builder, Normed
from transfuse.network.families.parts import Config
from transfuse.network.families.parts_blocks import PreNormNames, block_sizes, pre_norm_blocks
from transfuse.network.space import Space

NAMES = PreNormNames(("layer_norm1", "layer_norm2"), "self_attn", "out_proj")


def text_tower(s: Builder, config: Config, p: str) -> Normed:
    """Declare everything from tokens to the last norm."""
    s.part = "embeddings"
    token, position = (s.free(f"text.{name}", config.hidden_size) for name in ("token", "position"))
    s.embedding(f"{p}embeddings.token_embedding", s.fixed("vocabulary", config.vocab_size), token)
    s.embedding(
        f"{p}embeddings.position_embedding", s.fixed("text.position_id", config.max_position_embeddings), position
    )
    x = s.join("text.embed", token, position)
    return tower_blocks(s, config, f"{p}encoder.", "text", x, f"{p}final_layer_norm")


def tower_blocks(s: Builder, config: Config, p: str, tower: str, x: Space, last: str) -> Normed:
    """Declare the blocks of a tower and its last norm."""
    x = pre_norm_blocks(s, f"{p}layers", x, block_sizes(config), NAMES, label=f"{tower}.")
    s.part = "head"
    return s.norm(last, x)
