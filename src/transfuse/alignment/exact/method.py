"""The best element of every exact symmetry."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import torch
from transformers import PreTrainedModel

from transfuse.activations.cache import cached_moments
from transfuse.activations.hooks import collect_moments
from transfuse.activations.project import Statistics, project_moments
from transfuse.alignment.exact import coordinate_descent as exact_maps
from transfuse.alignment.exact.canonical_form import canonicalize
from transfuse.alignment.exact.selection import disagreement
from transfuse.alignment.interface import AlignContext, Alignment
from transfuse.alignment.spec_for import alignment_spec
from transfuse.alignment.transform import transform_all
from transfuse.network.compatible import check_same_widths
from transfuse.network.model import Network, sharing_tensors
from transfuse.network.spec import Spec
from transfuse.transport.maps import Map
from transfuse.transport.solve import Match

# Weight evidence counts this many times as much as activation evidence where both are summed; other shares did about
# as well (docs/log.md).
WEIGHT_SHARE = 3.0
ROUNDED = 1e-5  # relative squared error of weights that are stored in half precision


def align_exact(anchor: Network, source: Network, choices: AlignContext) -> Alignment:
    """The best element of every exact symmetry: the source keeps its function.

    Activations and weights lead coordinate descent into different optima, neither better throughout. With both, each
    start is followed and the candidate kept whose mean with the anchor agrees best with the parents' mean output on
    the calibration samples; no labels are used.
    """
    check_same_widths(anchor.spec, source.spec, "exact")
    return align_within(alignment_spec(source.spec, "exact", choices.paper, choices.groups), anchor, source, choices)


def align_within(spec: Spec, anchor: Network, source: Network, choices: AlignContext) -> Alignment:
    """The best element of the groups that a symmetric declaration names."""
    ours, theirs = (each.hold(canonicalize(spec, each.tensors)) for each in (anchor, source))
    products = torch.promote_types(anchor.products, source.products)
    weights, activations = exact_maps.from_weights(spec, theirs, ours, products=products), None
    if choices.evidence != "weights":
        seen = _seen(spec, sharing_tensors(source.model, theirs), sharing_tensors(anchor.model, ours), choices)
        shown = exact_maps.from_activations(seen)
        activations = exact_maps.or_else(exact_maps.remembered(shown) if choices.room is None else shown, weights)
    groups = {name: space.group for name, space in spec.spaces().items()}
    store = choices.store.of(align="exact", evidence=choices.evidence, groups=groups)
    choices = replace(choices, store=store)
    nothing = ROUNDED if products == torch.float32 else 0.0
    found = _descents(spec, activations, weights if choices.evidence != "activations" else None, choices, nothing)
    carried = {name: transform_all(spec, theirs, _maps(matches)) for name, matches in found.items()}
    scores: dict[str, float] = {}
    if len(found) > 1:
        scores = disagreement(anchor.model, source.model, ours, carried, choices.batches)
    best = min(scores, key=lambda name: scores[name]) if scores else next(iter(found))
    return Alignment(spec, ours, source.hold(carried[best]), found[best], scores)


def _seen(spec: Spec, source: PreTrainedModel, anchor: PreTrainedModel, choices: AlignContext) -> Statistics:
    """What the units look like in models in canonical gauge."""
    look = partial(collect_moments, source, anchor, batches=choices.batches, products=exact_maps.products)
    keep = partial(cached_moments, choices.store, collect=look, room=choices.room, tokens="all")
    return project_moments(source, anchor, exact_maps.probes(spec), keep)


def _descents(
    spec: Spec,
    activations: exact_maps.Evidence | None,
    weights: exact_maps.Evidence | None,
    choices: AlignContext,
    nothing: float,
) -> dict[str, dict[str, Match]]:
    """The optima that coordinate descent reaches from the evidence there is."""
    kinds = {"activations": activations, "weights": weights}
    found: dict[str, dict[str, Match]] = {}

    def descend(name: str, evidence: exact_maps.Evidence, start: str | None = None) -> None:
        before, store = found[start] if start else {}, choices.store.of(descent=name)
        found[name] = exact_maps.coordinate_descent(spec, evidence, before, store, choices.progress, nothing)

    for name, evidence in kinds.items():
        if evidence is not None:
            descend(name, evidence)
    if activations is not None and weights is not None:
        both = exact_maps.combine([(activations, 1.0), (weights, WEIGHT_SHARE)])
        descend("activations, then weights", weights, "activations")
        descend("activations, then both", both, "activations")
        descend("weights, then both", both, "weights")
    return found


def _maps(matches: Mapping[str, Match]) -> dict[str, Map]:
    return {name: match.map for name, match in matches.items()}
