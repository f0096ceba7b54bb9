"""Check the models of a fusion and estimate its memory before any model is loaded."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic

from transformers import PreTrainedModel

from transfuse.checkpoint.reading.load import Model
from transfuse.config.options import Options
from transfuse.errors import ConfigError
from transfuse.fusion.models.compatible import borrowed_by_sources, check_compatible, empty_model, with_anchor_form
from transfuse.fusion.models.equal_classes import in_one_family
from transfuse.fusion.models.own_head import needs_own_head
from transfuse.fusion.models.shared_base import MATRICES, Chosen, readable_networks, resolve_alignment
from transfuse.fusion.models.vocabulary import ONE_VOCABULARY, OTHER_VOCABULARIES, Rows, token_rows, with_anchor_tokens
from transfuse.fusion.models.whole_models import changed_models
from transfuse.fusion.planning.plan import Estimate
from transfuse.fusion.planning.streaming_choice import streaming_obstacle
from transfuse.fusion.sizes.changes import size_changes
from transfuse.fusion.sizes.samples import SizeSamples
from transfuse.network.families.undeclared import take_undeclared
from transfuse.network.model import Network, has_declaration


@dataclass(frozen=True)
class UnloadedModels(Generic[Chosen]):
    """Hold the models of a fusion without their weights, after the checks that they are compatible.

    Attributes:
        stored: the models as they are stored, the anchor first.
        models: the same in the form of the anchor.
        rows: for each source, the row in its vocabulary of each of the anchor's tokens; None: the same vocabulary.
        options: the options, without alignment if the models share a base and the user chose none.
        correlation: how the compared weights of models of one base correlate; None: as for `resolve_alignment`, or the
            files do not allow to read single tensors.
        estimate: what the fusion takes by its weights, with these options.
        obstacle: why models must be loaded; None if they can be fused tensor by tensor.
    """

    stored: Sequence[PreTrainedModel]
    models: Sequence[PreTrainedModel]
    rows: Sequence[Rows | None]
    options: Chosen
    correlation: float | None
    estimate: Estimate
    obstacle: str | None


def unloaded_models(
    models: Sequence[Model],
    names: Sequence[str],
    options: Chosen,
    has_data: bool,
    has_base: bool,
    size_samples: SizeSamples | None = None,
    like: int = 0,
) -> UnloadedModels[Chosen]:
    """Return models without their weights. Of the weights, some matrices are compared, and none is kept.

    Args:
        models: the anchor first; the model that all were fine-tuned from last, if there is one.
        names: what to call the models in messages.
        has_data: whether the fusion has calibration samples.
        has_base: whether the last model is the one that all were fine-tuned from.
        size_samples, like: decide about models of other sizes, as for `with_anchor_sizes`.

    Raises:
        TransfuseError: a model cannot be read, or the models are not compatible.
    """
    stored = in_one_family([empty_model(model, options) for model in models], names)
    for model in stored:
        take_undeclared(type(model).__name__, options.needs_no_declaration(has_base))
    anchored = with_anchor_form(stored, names, options, size_samples, like)
    rows = token_rows(models, anchored, options.vocab, ONE_VOCABULARY if has_base else OTHER_VOCABULARIES)
    if not has_declaration(stored[0]):
        _check_undeclared(type(stored[0]).__name__, options, has_data, rows)
    check_compatible(with_anchor_tokens(anchored, rows), names, 0 if options.needs_equal_widths else like)
    networks: list[Network] = []  # files lack what anchored models have more of
    same_tensors = not any(needs_own_head(model, anchored[0]) for model in stored)
    if same_tensors and not any(size_changes(*pair).keys() - {"layers"} for pair in zip(stored, anchored, strict=True)):
        networks = readable_networks(models, stored if options.head == "anchor" else anchored)
    borrowed = frozenset[str]().union(*borrowed_by_sources(stored, options))
    resolved, correlation = resolve_alignment(options, networks, models, MATRICES, borrowed)
    estimate = Estimate(anchored, resolved, [*changed_models(stored, anchored, options, like).values()])
    paths = [str(model) for model in models if not isinstance(model, PreTrainedModel)]
    obstacle = streaming_obstacle(paths, stored, anchored, names, resolved, has_data)
    return UnloadedModels(stored, anchored, rows, resolved, correlation, estimate, obstacle)


def _check_undeclared(architecture: str, options: Options, has_data: bool, rows: Sequence[Rows | None]) -> None:
    """Check what a class without a declaration cannot do.

    Raises:
        ConfigError: its models have different vocabularies, or are to be fitted or trained.
    """
    if any(row is not None for row in rows):
        raise ConfigError(
            f"vocab: {architecture} has no declaration, so it is not known which of its tensors belong to tokens; give"
            " models with one vocabulary"
        )
    if options.merging(has_data) in ("least-squares", "learned"):
        raise ConfigError(
            f"merge: {architecture} has no declaration, so its layers can neither be fitted nor trained; choose a merge"
            " by weights, such as mean or, with base, ties"
        )
