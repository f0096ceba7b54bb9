"""Align every model to the first one: by the chosen method, with their base, vocabularies and heads."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import zip_longest

from transfuse.alignment.exact.gradient import refine_maps
from transfuse.alignment.exact.procrustes_mean import generalized_procrustes
from transfuse.alignment.function_check import check_functions
from transfuse.alignment.interface import AlignContext, Alignment, aligned_weights
from transfuse.alignment.methods import ALIGNMENT_METHODS
from transfuse.base.progress import Progress, silent
from transfuse.config.literals import ALIGNMENTS, EXACT
from transfuse.config.options import Options
from transfuse.distillation.history import History
from transfuse.distillation.teacher_weighting import TEACHER_WEIGHTING
from transfuse.fusion.cache_keys import CacheKeys, no_cache
from transfuse.fusion.models.anchor_head import with_anchor_head
from transfuse.fusion.models.inputs import Inputs
from transfuse.fusion.models.shared_base import check_descendants, of_one_base
from transfuse.fusion.models.vocabulary import Rows, with_anchor_rows
from transfuse.network.model import Network


def align(
    networks: Sequence[Network],
    weights: Sequence[float],
    context: AlignContext,
    options: Options,
    rows: Sequence[Rows | None] = (),
    borrowed: Sequence[frozenset[str]] = (),
    progress: Progress = silent,
    stores: CacheKeys | None = None,
) -> tuple[list[Alignment], History | None]:
    """Align every source to the anchor.

    Args:
        networks: the models, the anchor first.
        weights: one per model; they sum to one.
        rows: for each source, the row in its vocabulary of each of the anchor's tokens; None: the same vocabulary.
        borrowed: for each source, the tensors that are the anchor's; empty: none.
        stores: the caches of this fusion; None: nothing is cached.

    Returns:
        One alignment per source, and the training history of the maps, or None if no maps were trained.

    Raises:
        SpecError: an alignment that should preserve functions changed the function of a model.
    """
    method = ALIGNMENT_METHODS[options.align]
    stores = stores or no_cache(len(networks))
    history = None
    alignments = [
        method(networks[0], source, replace(context, store=store, progress=progress))
        for source, store in zip(networks[1:], stores.pairs, strict=True)
    ]
    if options.basis == "common" or (options.basis == "auto" and options.align in EXACT and len(alignments) > 1):
        track = partial(progress.track, description="finding a common basis")
        alignments = generalized_procrustes(alignments, weights, track, networks[0].materialize)
    if options.align == "learned":
        alignments, history = refine_maps(
            [network.model for network in networks],
            alignments,
            weights,
            context.batches,
            options.learning(),
            TEACHER_WEIGHTING[options.teacher_weighting],
            options.seed,
            stores.joint.file("learning.pt"),
            progress.track,
        )
    if ALIGNMENTS[options.align] and alignments:
        alignments = check_functions(networks, alignments, rows)
    with_vocabulary = [
        alignment if source_rows is None else with_anchor_rows(alignment, source_rows, options.vocab)
        for alignment, source_rows in zip_longest(alignments, rows)
    ]
    if borrowed:
        pairs = zip(with_vocabulary, borrowed, strict=True)
        with_vocabulary = [with_anchor_head(alignment, names) for alignment, names in pairs]
    return with_vocabulary, history


def aligned_base(
    inputs: Inputs, alignments: Sequence[Alignment], context: AlignContext, options: Options, progress: Progress
) -> Alignment | None:
    """Return the alignment of the base to the anchor; None without a base.

    Raises:
        ConfigError: a model does not descend from the base.
    """
    if inputs.base is None:
        return None
    pair, borrowed = [inputs.networks[0], inputs.base], [inputs.base_borrowed]
    ((alignment,), _) = align(pair, [0.5, 0.5], context, options, borrowed=borrowed, progress=progress)
    base_path = inputs.base_origin and inputs.base_origin.path
    parents = aligned_weights(alignments) if alignments else [alignment.anchor]
    for network, origin, tensors in zip(inputs.networks, inputs.origins, parents, strict=True):
        if options.align != "none" or not of_one_base((origin.path, base_path)):
            check_descendants(alignment.spec, alignment.carried, [tensors], [network.name], inputs.base.name)
    return alignment
