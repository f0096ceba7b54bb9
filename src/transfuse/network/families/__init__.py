"""The declarations of all supported architectures, by the name of the transformers class."""

from collections.abc import Callable

from transformers import PreTrainedConfig

from transfuse.errors import SpecError, TransfuseError
from transfuse.network.families import (
    albert,
    bart,
    beit,
    bert,
    bloom,
    clip,
    deberta,
    dinov2,
    dinov3,
    distilbert,
    electra,
    esm,
    eurobert,
    gemma,
    gpt2,
    gpt_neo,
    gpt_neox,
    gpt_oss,
    gte,
    llama,
    modernbert,
    mpnet,
    olmo,
    opt,
    parallel,
    qwen3,
    qwen3_next,
    siglip,
    t5,
    vit,
    vit_mae,
    whisper,
)
from transfuse.network.families.nearest import nearest
from transfuse.network.families.undeclared import UNALIGNED, undeclared
from transfuse.network.spec import Spec

Family = Callable[[PreTrainedConfig], Spec]

MODULES = (
    *(vit, vit_mae, dinov2, dinov3, beit, clip, siglip),
    *(bert, distilbert, modernbert, electra, mpnet, deberta, albert, gte, eurobert, esm),
    *(gpt2, gpt_neo, opt, bloom, gpt_neox, llama, qwen3, qwen3_next, gemma, olmo, parallel, gpt_oss),
    *(t5, bart, whisper),
)
FAMILIES: dict[str, Family] = {name: declare for module in MODULES for name, declare in module.ARCHITECTURES.items()}


def is_declared(config: PreTrainedConfig, architecture: str) -> bool:
    """Return whether a family declares a class, given its name, and if models may do without, this variant of it."""
    return architecture in FAMILIES and (architecture not in UNALIGNED or _declares_variant(config, architecture))


def _declares_variant(config: PreTrainedConfig, architecture: str) -> bool:
    tensors = undeclared(config, architecture).tensors()
    try:
        FAMILIES[architecture](config).validate({name: [axis.size for axis in axes] for name, axes in tensors.items()})
    except TransfuseError:
        return False
    return True


def declare(config: PreTrainedConfig, architecture: str) -> Spec:
    """Return the declaration of a checkpoint, by the name of its transformers class.

    Raises:
        SpecError: no family declares this class, and nobody asked for it without alignment; or its declaration fails.
    """
    declared = is_declared(config, architecture)
    if not declared and architecture not in UNALIGNED:
        raise SpecError(
            f"{architecture} (model type {config.model_type}) is not supported; {nearest(config, FAMILIES)}."
            " Fine-tunes of one base can be merged without alignment (--align none). For anything else, declare this"
            " class in a file (docs/adding-a-family.md), and pass --spec FILE"
        )
    try:
        spec = FAMILIES[architecture](config) if declared else undeclared(config, architecture)
    except TransfuseError:
        raise
    except Exception as error:  # declarations of users may raise anything, and a configuration may lack a value
        raise SpecError(f"{architecture}: its declaration fails with {type(error).__name__}: {error}") from error
    if not isinstance(spec, Spec):
        raise SpecError(f"{architecture}: its declaration returns {spec!r}, not a Spec; end it with return s.build()")
    return spec
