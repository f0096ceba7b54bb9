"""Models whose tokenizers number words differently: rows of embeddings and heads meet by the words they stand for."""

import copy
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import PreTrainedModel

from transfuse.alignment.interface import Alignment
from transfuse.checkpoint.load import local_directory
from transfuse.config.literals import Vocabulary
from transfuse.data.texts import vocabulary
from transfuse.errors import CheckpointError, ConfigError
from transfuse.network.axes import without_direction
from transfuse.network.layout import join_fused, split_fused, unfused
from transfuse.network.model import declaration
from transfuse.network.operations import Axes
from transfuse.network.spec import Spec

SPACE = "vocabulary"  # what families call the fixed space of words
Rows = Int[Tensor, " word"]  # of each of the anchor's words, the row that a source has for it, or -1


def rows_of_words(
    models: Sequence[str | Path | PreTrainedModel], loaded: Sequence[PreTrainedModel], vocab: Vocabulary
) -> list[Rows | None]:
    """Where each model after the anchor has the anchor's words; None: where the anchor has them.

    Raises:
        CheckpointError: tokenizers differ, and `vocab` is `same`; says in how many words.
    """
    if any(isinstance(model, PreTrainedModel) for model in models):
        return [None] * (len(models) - 1)
    folders = [local_directory(str(model), "allow") for model in models]
    words = [vocabulary(folder, model.config) for folder, model in zip(folders, loaded, strict=True)]
    found: list[Rows | None] = []
    for folder, other in zip(folders[1:], words[1:], strict=True):
        sizes = {getattr(model.config, "vocab_size", None) for model in (loaded[0], loaded[len(found) + 1])}
        if other is None or words[0] is None or (other == words[0] and (len(sizes) == 1 or vocab == "same")):
            found.append(None)
            continue
        if vocab == "same":
            raise CheckpointError(_differing(folders[0], words[0], folder, other))
        if not hasattr(loaded[0].config, "vocab_size"):
            raise ConfigError(f"vocab: {type(loaded[0]).__name__} has its words in a tower; give it one tokenizer")
        rows = torch.full((loaded[0].config.vocab_size,), -1)
        for word, number in words[0].items():
            if number < len(rows) and other.get(word, -1) < loaded[len(found) + 1].config.vocab_size:
                rows[number] = other.get(word, -1)
        if (rows < 0).all():
            raise CheckpointError(f"{folder}: its tokenizer shares no word with that of {folders[0]}; nothing to fuse")
        found.append(rows)
    return found


def _differing(first: Path, ours: dict[str, int], second: Path, theirs: dict[str, int]) -> str:
    shared = ours.keys() & theirs.keys()
    alike = sum(ours[word] == theirs[word] for word in shared)
    word = next(iter(sorted(dict(ours.items() ^ theirs.items()))))
    return (
        f"{second}: its tokenizer differs from that of {first} in {len(ours | theirs) - alike} of"
        f" {len(ours | theirs)} tokens ({len(shared)} are shared, {word!r} is one that differs); pass --vocab shared to"
        " fuse rows by the words they stand for, or --vocab anchor to keep the anchor's"
    )


def recode(source: PreTrainedModel, rows: Rows, anchor: PreTrainedModel) -> PreTrainedModel:
    """The source with the anchor's vocabulary: rows in its order, zeros for words that the source does not know."""
    config = copy.deepcopy(source.config)
    for name in ("vocab_size", *(name for name in vars(anchor.config) if name.endswith("_token_id"))):
        setattr(config, name, getattr(anchor.config, name))
    spec = declaration(source)
    tensors = dict(split_fused(spec, source.state_dict()))
    for name, axes in unfused(spec).tensors().items():
        for position in _places(axes):
            taken = tensors[name].index_select(position, rows.clamp_min(0))
            tensors[name] = _where(rows >= 0, position, taken, torch.zeros_like(taken))
    recoded = type(source)(config).to(source.dtype)
    recoded.load_state_dict(join_fused(declaration(recoded), tensors))
    return recoded.eval()


def with_own_words(aligned: Alignment, rows: Rows, vocab: Vocabulary) -> Alignment:
    """The alignment with the anchor's rows for words that the source does not know (shared), or for all (anchor)."""
    own = rows < 0 if vocab == "shared" else torch.ones_like(rows, dtype=torch.bool)
    carried = dict(aligned.carried)
    for name, axes in aligned.spec.tensors().items():
        for position in _places(axes) if name in carried else ():
            carried[name] = _where(own, position, aligned.anchor[name], carried[name])
    return replace(aligned, carried=carried)


def of_words(spec: Spec) -> set[str]:
    """The linear maps that read or write words."""
    return {op.name for op in spec.linears() if any(_places(axes) for axes in op.tensors().values())}


def _places(axes: Axes) -> list[int]:
    return [position for position, axis in enumerate(axes) if getattr(without_direction(axis), "name", None) == SPACE]


def _where(mask: Tensor, position: int, yes: Tensor, no: Tensor) -> Tensor:
    """Along one dimension, entries of the one or of the other."""
    return torch.where(mask.view([-1 if place == position else 1 for place in range(yes.ndim)]), yes, no)
