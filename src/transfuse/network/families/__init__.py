"""The declarations of all supported architectures, by the name of the transformers class."""

from collections.abc import Callable
from difflib import get_close_matches

from transformers import PretrainedConfig

from transfuse.errors import SpecError, TransfuseError
from transfuse.network.families import (
    albert,
    bart,
    beit,
    bert,
    clip,
    deberta,
    dinov2,
    dinov3,
    distilbert,
    electra,
    gemma,
    gpt2,
    gpt_neox,
    llama,
    modernbert,
    mpnet,
    qwen3,
    siglip,
    t5,
    vit,
    whisper,
)
from transfuse.network.spec import Spec

Family = Callable[[PretrainedConfig], Spec]

FAMILIES: dict[str, Family] = {
    name: declare
    for family in (
        *(vit, dinov2, dinov3, beit, clip, siglip),
        *(bert, distilbert, modernbert, electra, mpnet, deberta, albert),
        *(gpt2, gpt_neox, llama, qwen3, gemma),
        *(t5, bart, whisper),
    )
    for name, declare in family.ARCHITECTURES.items()
}


def declare(config: PretrainedConfig, architecture: str) -> Spec:
    """Return the declaration of a checkpoint, by the name of its transformers class.

    Raises:
        SpecError: no family declares this class, or its declaration fails.
    """
    if architecture not in FAMILIES:
        same_stem = [name for name in FAMILIES if name.startswith(_stem(architecture))]
        similar = same_stem or get_close_matches(architecture, FAMILIES, n=3, cutoff=0.3) or sorted(FAMILIES)
        raise SpecError(
            f"{architecture} (model type {config.model_type}) is not supported; supported are classes such as"
            f" {', '.join(similar[:5])}. Declare yours in a file (docs/adding-a-family.md) and pass --spec FILE"
        )
    try:
        spec = FAMILIES[architecture](config)
    except TransfuseError:
        raise
    except Exception as error:  # declarations of users may raise anything, and a configuration may lack a value
        raise SpecError(f"{architecture}: its declaration fails with {type(error).__name__}: {error}") from error
    if not isinstance(spec, Spec):
        raise SpecError(f"{architecture}: its declaration returns {spec!r}, not a Spec; end it with return s.build()")
    return spec


def _stem(architecture: str) -> str:
    """Return the common start of the names of related classes: `Llama` for `LlamaForX`."""
    return architecture.partition("For")[0].removesuffix("Model") or architecture
