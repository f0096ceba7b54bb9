"""Alignment by the exact symmetries of the network: `align: exact`."""

from dataclasses import replace
from functools import partial

import torch
from transformers import PreTrainedModel

from transfuse.activations.cache import cached_moments
from transfuse.activations.hooks import collect_moments
from transfuse.activations.project import Statistics, project_moments
from transfuse.alignment.exact import evidence as views
from transfuse.alignment.exact.canonical_form import canonicalize
from transfuse.alignment.exact.coordinate_descent import coordinate_descent
from transfuse.alignment.exact.selection import disagreement
from transfuse.alignment.interface import AlignContext, Alignment
from transfuse.alignment.spec_for import alignment_spec
from transfuse.alignment.transform import transform_all
from transfuse.network.compatible import check_same_widths
from transfuse.network.model import Network, sharing_tensors
from transfuse.network.spec import Spec
from transfuse.transport.solve import Match, maps_of

# The weight of weight evidence relative to activation evidence where both are summed. Other weights did about as well
# (docs/log.md).
WEIGHT_SHARE = 3.0
ROUNDED = 1e-5  # relative squared error of weights that are stored in half precision


def align_exact(anchor: Network, source: Network, context: AlignContext) -> Alignment:
    """Align by the best element of every exact symmetry, which leaves the source's function as it is.

    Activations and weights lead coordinate descent into different optima, and neither is always better. With both,
    several descents are run. The selected candidate is the one whose mean with the anchor is closest to the parents'
    mean output on the calibration samples. No labels are used.

    Raises:
        SpecError: the widths differ.
    """
    check_same_widths(anchor, source, "exact")
    return align_within(alignment_spec(source.spec, "exact", context.flow, context.groups), anchor, source, context)


def align_within(spec: Spec, anchor: Network, source: Network, context: AlignContext) -> Alignment:
    """Align by the best elements of the groups that a symmetric declaration names."""
    anchor_tensors, source_tensors = (
        model.materialize(canonicalize(spec, model.tensors)) for model in (anchor, source)
    )
    dtype = torch.promote_types(anchor.matmul_dtype, source.matmul_dtype)
    weights = views.from_weights(spec, source_tensors, anchor_tensors, products=dtype)
    groups = {name: space.group for name, space in spec.spaces().items()}
    activations = None
    if context.match_on != "weights":
        models = (
            sharing_tensors(source.model, source_tensors, source.materialize),
            sharing_tensors(anchor.model, anchor_tensors, anchor.materialize),
        )
        shown = views.from_activations(
            _statistics(spec, *models, replace(context, store=context.store.of(canonical=groups)))
        )
        activations = views.with_fallback(views.cached(shown) if context.room is None else shown, weights)
    store = context.store.of(align="exact", evidence=context.match_on, groups=groups)
    candidates = _descend(
        spec,
        activations,
        weights if context.match_on != "activations" else None,
        replace(context, store=store),
        ROUNDED if dtype == torch.float32 else 0.0,
    )
    carried = {name: transform_all(spec, source_tensors, maps_of(matches)) for name, matches in candidates.items()}
    scores: dict[str, float] = {}
    if len(candidates) > 1:
        scores = disagreement(anchor.model, source.model, anchor_tensors, carried, context.batches)
    best = min(scores, key=lambda name: scores[name]) if scores else next(iter(candidates))
    return Alignment(spec, anchor_tensors, source.materialize(carried[best]), candidates[best], scores)


def _statistics(spec: Spec, source: PreTrainedModel, anchor: PreTrainedModel, context: AlignContext) -> Statistics:
    """Return the moments of the activations of models in canonical form, which depends on the groups."""
    collect = partial(collect_moments, source, anchor, batches=context.batches, product_dtype=views.product_dtype)
    cache = partial(
        cached_moments, context.store, collect=collect, room=context.room, device=anchor.device, tokens="all"
    )
    return project_moments(source, anchor, views.hook_points(spec), cache)


def _descend(
    spec: Spec,
    activations: views.Evidence | None,
    weights: views.Evidence | None,
    context: AlignContext,
    negligible: float,
) -> dict[str, dict[str, Match]]:
    """Return the optima that coordinate descent reaches, by the evidence that led to them."""
    optima: dict[str, dict[str, Match]] = {}

    def descend(name: str, evidence: views.Evidence, start: str | None = None) -> None:
        before = optima[start] if start else {}
        store = context.store.of(descent=name)
        optima[name] = coordinate_descent(spec, evidence, before, store, context.progress, negligible)

    for name, evidence in {"activations": activations, "weights": weights}.items():
        if evidence is not None:
            descend(name, evidence)
    if activations is not None and weights is not None:
        both = views.combine([(activations, 1.0), (weights, WEIGHT_SHARE)])
        descend("activations, then weights", weights, "activations")
        descend("activations, then both", both, "activations")
        descend("weights, then both", both, "weights")
    return optima
