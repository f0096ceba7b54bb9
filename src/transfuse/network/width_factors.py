"""Factors on the tensors of a model that make up for another width, where the width itself enters the function."""

from transformers import PreTrainedModel

from transfuse.network.model import with_tied
from transfuse.network.operations import Embedding
from transfuse.network.spec import Spec


def width_factors(model: PreTrainedModel, own: Spec, other: Spec) -> dict[str, float]:
    """Return by what to multiply tensors so that a model of other widths computes the same with them.

    The root of the width multiplies embeddings in Gemma, and divides what the tied head of T5 reads. If a scaled
    embedding is also the head, the norm in front of the head makes up for that.

    Args:
        model: any model of this class with these ties.
        own: the unfused declaration of the model that the tensors come from.
        other: the declaration of the other model, with the same names.
    """
    widths = {op.name: op.writes.size for op in other.ops if isinstance(op, Embedding)}
    factors: dict[str, float] = {}
    for embedding in (op for op in own.ops if isinstance(op, Embedding) and op.scaled):
        ratio = (embedding.writes.size / widths[embedding.name]) ** 0.5
        factors |= dict.fromkeys(with_tied(model, {f"{embedding.name}.weight"}), ratio)
        tied_norms = [norm for norm in own.norms() if norm.space == ~embedding.writes]
        factors |= {name: 1 / ratio for norm in tied_norms for name in norm.tensors()}
    widths = {norm.name: norm.space.size for norm in other.norms()}
    for norm in (norm for norm in own.norms() if norm.divided):
        factors[norm.gain] = (widths[norm.name] / norm.space.size) ** 0.5
    return {name: factor for name, factor in factors.items() if factor != 1.0}
