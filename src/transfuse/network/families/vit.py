"""ViT (Dosovitskiy et al., 2021) and DeiT (Touvron et al., 2021): pre-norm, a class token, learned positions."""

from transfuse.network.builder import Builder, Normed
from transfuse.network.families.parts import Config, bias_if
from transfuse.network.families.parts_blocks import PreNormNames, block_sizes, pre_norm_blocks
from transfuse.network.families.parts_heads import linear_head, pooler
from transfuse.network.families.parts_images import patches
from transfuse.network.spec import Spec

NAMES = PreNormNames(("layernorm_before", "layernorm_after"), "attention", "o_proj")


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
    bias = bias_if(config.qkv_bias)
    x = pre_norm_blocks(s, f"{p}layers", x, block_sizes(config), NAMES, bias, classifies=classifies)
    s.part = "head"
    return s.norm(f"{p}layernorm", x)


def states(s: Builder, config: Config, h: Normed) -> None:
    """Declare the pooler of a model whose output is the last norm, which therefore is not folded."""
    pooler(s, h.space, "pooler.dense", config.pooler_output_size, config.pooler_act)
