"""Fuse models whose tokenizers number tokens differently: match rows of embeddings and heads by their tokens."""

import copy
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import PreTrainedModel

from transfuse.alignment.interface import Alignment
from transfuse.base.counted import are, counted
from transfuse.checkpoint.reading.load import local_directory
from transfuse.config.literals import Vocabulary
from transfuse.data.text.saved_tokenizer import vocabulary
from transfuse.errors import CheckpointError, ConfigError
from transfuse.network.axes import fixed_dimensions
from transfuse.network.layout import join_fused, split_fused, unfused
from transfuse.network.model import declaration
from transfuse.network.reconfigured import empty_like
from transfuse.network.spec import Spec
from transfuse.network.token_ids import POSITIONS_AFTER_PADDING

SPACE = "vocabulary"  # the name of the fixed space of tokens in every family
Rows = Int[Tensor, " token"]  # for each of the anchor's tokens, its row in the source's vocabulary, or -1
TokenIds = dict[str, int]
OTHER_VOCABULARIES = (
    "fuse with --vocab shared to match rows by their tokens, or with --vocab anchor to keep the anchor's rows"
)
ONE_VOCABULARY = (
    "models merged with --base need one vocabulary; leave base out and choose --merge mean or slerp, with"
    " --vocab shared"
)


def token_rows(
    models: Sequence[str | Path | PreTrainedModel],
    loaded: Sequence[PreTrainedModel],
    vocab: Vocabulary,
    advice: str = OTHER_VOCABULARIES,
) -> list[Rows | None]:
    """Return, for each source, the rows of the anchor's tokens; None: its vocabulary is the anchor's.

    Args:
        models: what the user passed. Loaded models have no tokenizer and count as having the anchor's vocabulary.
        loaded: the same models; their tensors may be empty.
        advice: what to do if tokenizers differ.

    Raises:
        CheckpointError: the tokenizers differ and `vocab` is `same`, or they share no token.
        ConfigError: the model has its vocabulary in a tower, so that rows cannot be matched.
    """
    if any(isinstance(model, PreTrainedModel) for model in models):
        return [None] * (len(models) - 1)
    folders = [local_directory(str(model), "allow") for model in models]
    vocabularies = [vocabulary(folder) for folder in folders]
    rows_of_sources: list[Rows | None] = []
    for folder, source, source_ids in zip(folders[1:], loaded[1:], vocabularies[1:], strict=True):
        anchor_ids = vocabularies[0]
        if anchor_ids is None or source_ids is None or _same_rows(loaded[0], anchor_ids, source, source_ids, vocab):
            rows_of_sources.append(None)
            continue
        if vocab == "same":
            raise CheckpointError(_difference(folders[0], anchor_ids, folder, source_ids, advice))
        rows = _rows(loaded[0], anchor_ids, source, source_ids)
        if (rows < 0).all():
            raise CheckpointError(
                f"{folder}: its tokenizer shares no token with that of {folders[0]}; choose models with a common"
                " vocabulary"
            )
        rows_of_sources.append(rows)
    return rows_of_sources


def _same_rows(
    anchor: PreTrainedModel, anchor_ids: TokenIds, source: PreTrainedModel, source_ids: TokenIds, vocab: Vocabulary
) -> bool:
    """Return whether the rows of two models stand for the same tokens. With `same`, the number of rows may differ."""
    sizes = [getattr(model.config, "vocab_size", None) for model in (anchor, source)]
    return source_ids == anchor_ids and (sizes[0] == sizes[1] or vocab == "same")


def _rows(anchor: PreTrainedModel, anchor_ids: TokenIds, source: PreTrainedModel, source_ids: TokenIds) -> Rows:
    """Return the row of each of the anchor's tokens in the source's vocabulary, or -1."""
    if not hasattr(anchor.config, "vocab_size"):
        raise ConfigError(
            f"vocab: a {type(anchor).__name__} has its vocabulary in a tower, where rows cannot be matched; give models"
            " with one tokenizer"
        )
    rows = torch.full((anchor.config.vocab_size,), -1)
    for token, row in anchor_ids.items():
        if row < len(rows) and source_ids.get(token, -1) < source.config.vocab_size:
            rows[row] = source_ids.get(token, -1)
    return rows


def _difference(anchor: Path, anchor_ids: TokenIds, source: Path, source_ids: TokenIds, advice: str) -> str:
    """Return the error message for tokenizers that differ."""
    shared = anchor_ids.keys() & source_ids.keys()
    example = min(dict(anchor_ids.items() ^ source_ids.items()))
    return (
        f"{source}: its tokenizer differs from that of {anchor} in {differing_tokens(anchor_ids, source_ids)}"
        f" ({len(shared)} {are(len(shared))} shared; {example!r} differs); {advice}"
    )


def differing_tokens(ids: TokenIds, other_ids: TokenIds) -> str:
    """Return how many tokens two tokenizers number differently, of all that one of them has."""
    total = len(ids | other_ids)
    return f"{total - len(ids.items() & other_ids.items())} of {counted(total, 'token')}"


def with_anchor_tokens(
    models: Sequence[PreTrainedModel], rows_of_sources: Sequence[Rows | None]
) -> list[PreTrainedModel]:
    """Return models in which sources with another vocabulary have the anchor's.

    Args:
        rows_of_sources: as by `token_rows`.
    """
    anchor, *sources = models
    pairs = zip(sources, rows_of_sources, strict=True)
    return [anchor, *(source if rows is None else recode(source, rows, anchor) for source, rows in pairs)]


def recode(source: PreTrainedModel, rows: Rows, anchor: PreTrainedModel) -> PreTrainedModel:
    """Return the source with the anchor's vocabulary. Tokens that it does not have get the mean of the other rows.

    With the mean, the logit of such a token is the mean of the other logits, in any basis. A model that counts
    positions from its padding token keeps the number of that token.

    Args:
        source: its tensors may be empty, and are then empty in the result.
    """
    config = copy.deepcopy(source.config)
    kept = ("pad_token_id",) if config.model_type in POSITIONS_AFTER_PADDING else ()
    for name in ("vocab_size", *(name for name in vars(anchor.config) if name.endswith("_token_id"))):
        if name not in kept:
            setattr(config, name, getattr(anchor.config, name))
    recoded = empty_like(source, config)
    if source.device.type == "meta":
        return recoded
    spec = declaration(source)
    tensors = dict(split_fused(spec, source.state_dict()))
    for name, axes in unfused(spec).tensors().items():
        for dimension in fixed_dimensions(axes, SPACE):
            selected = tensors[name].index_select(dimension, rows.clamp_min(0))
            mean = _mean_row(rows >= 0, dimension, selected).to(selected.dtype)
            tensors[name] = _select_rows(rows >= 0, dimension, selected, mean)
    recoded.load_state_dict(join_fused(declaration(recoded), tensors))
    return recoded


def with_anchor_rows(alignment: Alignment, rows: Rows, vocab: Vocabulary) -> Alignment:
    """Return an alignment in which rows of the source are replaced by the anchor's.

    With `vocab` equal to `shared`, rows of tokens that the source does not have are replaced. They are moved by the
    mean difference of the others, so that a constant in all logits of a model changes no prediction. With `anchor`, all
    rows are replaced.
    """
    known = rows >= 0 if vocab == "shared" else torch.zeros_like(rows, dtype=torch.bool)
    carried = dict(alignment.carried)
    for name, axes in alignment.spec.tensors().items():
        for dimension in fixed_dimensions(axes, SPACE) if name in carried else ():
            own, borrowed = carried[name], alignment.anchor[name]
            if known.any():
                moved = _mean_row(known, dimension, own) - _mean_row(known, dimension, borrowed)
                borrowed = borrowed + moved.to(borrowed.dtype)
            carried[name] = _select_rows(known, dimension, own, borrowed)
    return replace(alignment, carried=carried)


def vocabulary_maps(spec: Spec) -> set[str]:
    """Return the names of the linear maps that read or write tokens."""
    return {op.name for op in spec.linears() if any(fixed_dimensions(axes, SPACE) for axes in op.tensors().values())}


def _mean_row(mask: Tensor, dimension: int, values: Tensor) -> Tensor:
    """Return the mean, in double precision, of the rows along one dimension where `mask` is true."""
    return values.index_select(dimension, mask.nonzero().flatten()).double().mean(dimension, keepdim=True)


def _select_rows(mask: Tensor, dimension: int, chosen: Tensor, otherwise: Tensor) -> Tensor:
    """Return `chosen` where `mask` is true along one dimension, else `otherwise`."""
    shape = [-1 if index == dimension else 1 for index in range(chosen.ndim)]
    return torch.where(mask.view(shape), chosen, otherwise)
