"""ViT-MAE (He et al., 2022): a ViT that sees some of the patches, and a decoder that paints the others.

Positions are sinusoids, but they are stored like learned ones, so that they rotate with the streams.
"""

from collections.abc import Callable
from math import prod

from transfuse.network.builder import Builder, Normed
from transfuse.network.families import vit
from transfuse.network.families.parts import Config, bias_if
from transfuse.network.families.parts_blocks import BlockSizes, pre_norm_blocks
from transfuse.network.patch_grid import pair, patch_grid
from transfuse.network.spec import Spec
from transfuse.network.token_layout import Tokens


def pre_training(config: Config) -> Spec:
    """ViTMAEForPreTraining."""
    s = Builder("vit_mae")
    h = _encoder(s, config, "vit.")
    width = config.decoder_hidden_size
    one = s.fixed("one", 1)
    s.part = "embeddings"
    x = s.free("decoder.token", width)
    s.linear("decoder.decoder_embed", h, x)
    mask = s.free("decoder.mask", width)
    s.table("decoder.mask_token", (one, one), mask)
    x = s.concatenate("decoder.tokens", x, mask)
    position = s.free("decoder.position", width)
    s.table("decoder.decoder_pos_embed", (one, s.fixed("position_id", 1 + prod(patch_grid(config)))), position)
    x = s.join("decoder.embed", position, x)
    sizes = BlockSizes(
        config.decoder_num_hidden_layers, config.decoder_num_attention_heads, config.decoder_intermediate_size
    )
    x = pre_norm_blocks(s, "decoder.decoder_layers", x, sizes, vit.NAMES, bias_if(config.qkv_bias), "decoder.")
    s.part = "head"
    pixels = s.fixed("pixel", prod(pair(config.patch_size)) * config.num_channels)
    s.linear("decoder.decoder_pred", s.norm("decoder.decoder_norm", x), pixels)
    return s.build()


def model(config: Config) -> Spec:
    """ViTMAEModel: the last norm is the output of the network."""
    s = Builder("vit_mae")
    _encoder(s, config, "")
    return s.build()


ARCHITECTURES: dict[str, Callable[[Config], Spec]] = {"ViTMAEForPreTraining": pre_training, "ViTMAEModel": model}


def _encoder(s: Builder, config: Config, p: str) -> Normed:
    """Declare the encoder, whose patches have no order in which others could be found."""
    h = vit.trunk(s, config, p)
    s.tokens = Tokens(1)
    return h
