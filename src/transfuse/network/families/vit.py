"""ViT (Dosovitskiy et al., 2021) and DeiT (Touvron et al., 2021): pre-norm, a class token, learned positions."""

from collections.abc import Sequence

from transfuse.network.builder import Builder, Normed
from transfuse.network.families.parts import Config, bias_if
from transfuse.network.families.parts_blocks import block_sizes, pre_norm_blocks
from transfuse.network.families.parts_heads import linear_head, pooler
from transfuse.network.operations import Axes, Tokens
from transfuse.network.space import Space
from transfuse.network.spec import Spec


def vit(config: Config) -> Spec:
    """ViTForImageClassification."""
    s = Builder("vit")
    linear_head(s, trunk(s, config, "vit.", classifies=True), "classifier", config.num_labels)
    return s.build()


def vit_model(config: Config) -> Spec:
    """ViTModel."""
    s = Builder("vit")
    states(s, config, trunk(s, config, ""))
    return s.build()


def deit(config: Config) -> Spec:
    """DeiTForImageClassification."""
    s = Builder("deit")
    linear_head(s, trunk(s, config, "deit.", ("distillation_token",)), "classifier", config.num_labels)
    return s.build()


def deit_with_teacher(config: Config) -> Spec:
    """DeiTForImageClassificationWithTeacher: one head on the class token, one on the distillation token."""
    s = Builder("deit")
    h = trunk(s, config, "deit.", ("distillation_token",))
    linear_head(s, h, "cls_classifier", config.num_labels)
    linear_head(s, h, "distillation_classifier", config.num_labels)
    return s.build()


def deit_model(config: Config) -> Spec:
    """DeiTModel."""
    s = Builder("deit")
    states(s, config, trunk(s, config, "", ("distillation_token",)))
    return s.build()


ARCHITECTURES = {
    "ViTForImageClassification": vit,
    "ViTModel": vit_model,
    "DeiTForImageClassification": deit,
    "DeiTForImageClassificationWithTeacher": deit_with_teacher,
    "DeiTModel": deit_model,
}


def trunk(s: Builder, config: Config, p: str, special: tuple[str, ...] = (), *, classifies: bool = False) -> Normed:
    """Declare everything from pixels to the last norm.

    Args:
        p: the prefix of the names.
        special: special tokens besides the class token.
        classifies: whether only the class token of the output is read.
    """
    x = patches(s, config, f"{p}embeddings.", ("cls_token", *special), True)
    x = pre_norm_blocks(s, f"{p}layers", x, block_sizes(config), bias=bias_if(config.qkv_bias), classifies=classifies)
    s.part = "head"
    return s.norm(f"{p}layernorm", x)


def states(s: Builder, config: Config, h: Normed) -> None:
    """Declare the pooler of a model whose output is the last norm, which therefore is not folded."""
    pooler(s, h.space, "pooler.dense", config.pooler_output_size, config.pooler_act)


def patches(
    s: Builder,
    config: Config,
    p: str,
    tokens: tuple[str, ...],
    positions: bool,
    projection: str = "patch_embeddings.projection",
    registers: int | None = None,
) -> Space:
    """Declare patches and special tokens, with learned positions or without, and return the stream.

    Args:
        p: the prefix of the names.
        tokens: names of special tokens.
        projection: the name of the patch convolution.
        registers: the number of tokens without positions behind the special ones; None: there is no tensor of them.
    """
    width = config.hidden_size
    high, wide = pair(config.image_size)
    rows, columns = pair(config.patch_size)
    count = (high // rows) * (wide // columns)
    s.tokens = Tokens(len(tokens) + (registers or 0), high // rows, wide // columns)
    s.part = "embeddings"
    one = s.fixed("one", 1)
    patch = x = s.free("patch", width)
    s.linear(f"{p}{projection}", pixels(s, config.num_channels, (rows, columns)), x)
    if positions:
        position = s.free("position", width)
        s.table(f"{p}position_embeddings", (one, s.fixed("position_id", len(tokens) + count)), position)
        x = s.join("embed", position, x)
    for token in tokens:
        name = {"cls_token": "class_token"}.get(token, token)
        special = s.free(name, width)
        s.table(f"{p}{token}", (one, one), special)
        x = s.concatenate("tokens" if token == tokens[-1] else f"tokens.{token}", x, special)
    if registers is not None:
        register = s.free("register", width) if registers else patch  # an empty tensor shows no units
        s.table(f"{p}register_tokens", (one, s.fixed("register_id", registers)), register)
        x = s.concatenate("tokens.register", x, register) if registers else x
    return x


def pixels(s: Builder, channels: int, patch: tuple[int, int]) -> Axes:
    """Return the axes that a patch convolution reads."""
    return s.fixed("channel", channels), s.fixed("row", patch[0]), s.fixed("column", patch[1])


def pair(size: int | Sequence[int]) -> tuple[int, int]:
    """Return height and width, for which transformers also accepts one number."""
    height, width = (size, size) if isinstance(size, int) else size
    return height, width
