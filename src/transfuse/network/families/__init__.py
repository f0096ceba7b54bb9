"""Which declaration belongs to which checkpoint."""

from collections.abc import Callable
from difflib import get_close_matches

from transformers import PretrainedConfig

from transfuse.errors import SpecError
from transfuse.network.families import (
    beit,
    bert,
    clip,
    dinov2,
    distilbert,
    gemma,
    gpt2,
    gpt_neox,
    llama,
    modernbert,
    qwen3,
    t5,
    vit,
)
from transfuse.network.spec import Spec

Family = Callable[[PretrainedConfig], Spec]

FAMILIES: dict[str, Family] = {
    name: declare
    for family in (vit, dinov2, beit, clip, bert, distilbert, modernbert, gpt2, gpt_neox, llama, qwen3, gemma, t5)
    for name, declare in family.ARCHITECTURES.items()
}


def declare(config: PretrainedConfig, architecture: str) -> Spec:
    """The declaration of a checkpoint, by the name of its transformers class.

    Raises:
        SpecError: no family declares this class; names the ones that are near, and what to write.
    """
    if architecture not in FAMILIES:
        same = [name for name in FAMILIES if name.startswith(_stem(architecture))]
        near = same or get_close_matches(architecture, FAMILIES, n=3, cutoff=0.3) or sorted(FAMILIES)
        raise SpecError(
            f"{architecture} (model type {config.model_type}) has no declaration; near are {', '.join(near[:5])}."
            " Declare it in a file of your own (docs/adding-a-family.md) and pass --spec FILE"
        )
    return FAMILIES[architecture](config)


def _stem(architecture: str) -> str:
    """`Llama` of `LlamaForX`."""
    return architecture.partition("For")[0].removesuffix("Model") or architecture
