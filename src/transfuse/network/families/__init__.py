"""Which declaration belongs to which checkpoint."""

from collections.abc import Callable
from difflib import get_close_matches

from transformers import PretrainedConfig

from transfuse.errors import SpecError, TransfuseError
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
    try:
        found = FAMILIES[architecture](config)
    except TransfuseError:
        raise
    except Exception as error:  # a declaration may be a user's, and any configuration may lack a value
        raise SpecError(f"{architecture}: its declaration fails with {type(error).__name__}: {error}") from error
    if not isinstance(found, Spec):
        raise SpecError(f"{architecture}: its declaration gives {found!r}, no Spec; end it with return s.build()")
    return found


def _stem(architecture: str) -> str:
    """`Llama` of `LlamaForX`."""
    return architecture.partition("For")[0].removesuffix("Model") or architecture
