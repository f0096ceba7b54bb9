"""The alignments a user can choose: each carries a source into the anchor's basis."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial

import torch
from torch import Tensor
from transformers import PreTrainedModel

from transfuse.align import exact as exact_maps
from transfuse.align import flow as flow_maps
from transfuse.align.evidence import collect, inputs, outputs
from transfuse.align.expand import Statistics, expanded
from transfuse.align.gauge import canonical
from transfuse.align.heads import cross_head, head_counts, shared_queries, without_scales
from transfuse.align.kept import collected
from transfuse.align.paper import ordered, selection, variant, withheld
from transfuse.align.policy import WEIGHTED
from transfuse.align.select import disagreement
from transfuse.align.shelf import Shelf
from transfuse.align.stack import joint_queries, stack, unstack
from transfuse.align.strength import released_strengths, strengths
from transfuse.batch import Batch
from transfuse.choices import Align, Evidence, Groups, Paper
from transfuse.errors import ConfigError
from transfuse.io.store import NOWHERE, Store
from transfuse.lazy import Tensors
from transfuse.merge.apply import carry_all
from transfuse.network.compatible import check_same_nested, check_same_widths
from transfuse.network.model import Network, holding, with_twins
from transfuse.network.space import Group
from transfuse.network.spec import Spec
from transfuse.network.symmetry import restrict, symmetric
from transfuse.progress import Progress, silent
from transfuse.transport.maps import Map
from transfuse.transport.solve import Match

# Weight evidence counts this many times as much as activation evidence where both are summed; other shares did about
# as well (docs/log.md).
WEIGHT_SHARE = 3.0
ROUNDED = 1e-5  # relative squared error of weights that are stored in half precision


@dataclass(frozen=True)
class Choices:
    """What an alignment lets a user choose.

    Attributes:
        evidence: what units are matched by.
        batches: prepared samples to look at, on the models' device; empty where there is no data.
        paper: options of the flow.
        groups: every symmetry, or permutations alone.
        progress: shows what is under way.
        store: where finished work is kept, and taken from.
        room: bytes that statistics of activations may take; None: whatever they do.
    """

    evidence: Evidence
    batches: Sequence[Batch] = ()
    paper: Paper = field(default_factory=Paper)
    groups: Groups = "all"
    store: Store = NOWHERE
    progress: Progress = silent
    room: int | None = None


@dataclass(frozen=True)
class Aligned:
    """A source in the anchor's basis.

    Attributes:
        spec: the declaration, as the method transformed it.
        anchor: the anchor in the common basis: in canonical gauge, where the method needs it.
        carried: the source in that basis.
        matches: what was found for every space.
        candidates: where several alignments were tried, how much each disagreed with the parents, in nats.
    """

    spec: Spec
    anchor: Tensors
    carried: Tensors
    matches: Mapping[str, Match] = field(default_factory=dict)
    candidates: Mapping[str, float] = field(default_factory=dict)


def in_one_basis(alignments: Sequence[Aligned]) -> list[Tensors]:
    """The anchor and every source, as they can be merged."""
    return [alignments[0].anchor, *(each.carried for each in alignments)]


Method = Callable[[Network, Network, Choices], Aligned]


def align_none(anchor: Network, source: Network, choices: Choices) -> Aligned:
    """Leave the source as it is: the plain average."""
    check_same_widths(anchor.spec, source.spec, "none")
    return Aligned(source.spec, anchor.tensors, source.tensors)


def align_flow(anchor: Network, source: Network, choices: Choices) -> Aligned:
    """Transport maps layer by layer (TF-OT). Widths may differ."""
    options, kind = choices.paper, choices.evidence
    if kind == "both":
        raise ConfigError("align flow takes its evidence from activations or from weights, not from both; choose one")
    spec, target = (_flow_spec(each.spec, options) for each in (source, anchor))
    ours, theirs = stack(target, anchor.tensors), stack(spec, source.tensors)
    select = selection(options, spec)
    check_same_nested(target, spec)
    evidence = flow_maps.from_weights(spec, theirs, ours)
    nested = exact_maps.from_weights(spec, theirs, ours, target)
    if kind == "activations":
        probes = outputs(spec) if options.values == "values" else [*outputs(spec), *inputs(spec)]
        models = source.model, anchor.model
        look = partial(collect, *models, batches=choices.batches, select=select)
        keep = partial(collected, choices.store, collect=look, room=choices.room, tokens=options.tokens)
        seen = expanded(*models, ordered(options, probes), partial(keep, rules=options.rules))
        evidence = flow_maps.from_activations(seen, evidence, options.values)
        nested = exact_maps.or_else(exact_maps.from_activations(seen), nested)
    weights: dict[str, Tensor] = {}
    if options.policy in WEIGHTED:
        if not choices.batches:
            raise ConfigError(f"policy {options.policy} weighs by activations; give --data, or choose mean")
        measure = released_strengths if options.rules == "released" else strengths
        weights = measure(target, anchor.model, choices.batches, select)
    counts = [head_counts(without_scales(each.spec)) for each in (source, anchor)]
    heads = {name: (count, counts[1][name]) for name, count in counts[0].items()}
    shelf = Shelf(choices.store.of(align="flow", evidence=kind, options=asdict(options)))
    matches = flow_maps.flow(spec, evidence, variant(options, kind, heads), weights, nested, shelf, choices.progress)
    maps = {name: match.map for name, match in matches.items() if name not in withheld(options, spec)}
    kept = with_twins(source.model, {name for part in options.keep for name in source.spec.part(part)})
    carried = unstack(carry_all(spec, theirs, maps))
    for name in kept.intersection(carried):
        carried.replace(name, anchor.tensors)
    return Aligned(spec, anchor.tensors, source.hold(carried), matches)


def _flow_spec(spec: Spec, options: Paper) -> Spec:
    queries = {"separate": lambda spec: spec, "shared": shared_queries, "joint": joint_queries}
    return cross_head(queries[options.queries](without_scales(spec)))


def seen_by(spec: Spec, align: Align, paper: Paper, groups: Groups) -> Spec:
    """An opened declaration as an alignment sees it: the spaces that it finds maps for."""
    if align == "none":
        return spec
    if align == "flow":
        return _flow_spec(spec, paper)
    return permuting(symmetric(spec)) if groups == "permutations" else symmetric(spec)


def align_exact(anchor: Network, source: Network, choices: Choices) -> Aligned:
    """The best element of every exact symmetry: the source keeps its function.

    Activations and weights lead coordinate descent into different optima, neither better throughout. With both, each
    start is followed and the candidate kept whose mean with the anchor agrees best with the parents' mean output on
    the calibration samples; no labels are used.
    """
    check_same_widths(anchor.spec, source.spec, "exact")
    return align_within(seen_by(source.spec, "exact", choices.paper, choices.groups), anchor, source, choices)


def permuting(spec: Spec) -> Spec:
    """A symmetric declaration whose units are only permuted: what Git Re-Basin knows; rotary planes stay."""
    rigid = (Group.COMPLEX, Group.POSITIVE)
    return restrict(spec, lambda space: Group.FIXED if space.group in rigid else Group.PERMUTATION)


def align_within(spec: Spec, anchor: Network, source: Network, choices: Choices) -> Aligned:
    """The best element of the groups that a symmetric declaration names."""
    ours, theirs = (each.hold(canonical(spec, each.tensors)) for each in (anchor, source))
    products = torch.promote_types(anchor.products, source.products)
    weights, activations = exact_maps.from_weights(spec, theirs, ours, products=products), None
    if choices.evidence != "weights":
        seen = _seen(spec, holding(source.model, theirs), holding(anchor.model, ours), choices)
        shown = exact_maps.from_activations(seen)
        activations = exact_maps.or_else(exact_maps.remembered(shown) if choices.room is None else shown, weights)
    groups = {name: space.group for name, space in spec.spaces().items()}
    store = choices.store.of(align="exact", evidence=choices.evidence, groups=groups)
    choices = replace(choices, store=store)
    nothing = ROUNDED if products == torch.float32 else 0.0
    found = _descents(spec, activations, weights if choices.evidence != "activations" else None, choices, nothing)
    carried = {name: carry_all(spec, theirs, _maps(matches)) for name, matches in found.items()}
    scores: dict[str, float] = {}
    if len(found) > 1:
        scores = disagreement(anchor.model, source.model, ours, carried, choices.batches)
    best = min(scores, key=lambda name: scores[name]) if scores else next(iter(found))
    return Aligned(spec, ours, source.hold(carried[best]), found[best], scores)


def _seen(spec: Spec, source: PreTrainedModel, anchor: PreTrainedModel, choices: Choices) -> Statistics:
    """What the units look like in models in canonical gauge."""
    look = partial(collect, source, anchor, batches=choices.batches, products=exact_maps.products)
    keep = partial(collected, choices.store, collect=look, room=choices.room, tokens="all")
    return expanded(source, anchor, exact_maps.probes(spec), keep)


def _descents(
    spec: Spec,
    activations: exact_maps.Evidence | None,
    weights: exact_maps.Evidence | None,
    choices: Choices,
    nothing: float,
) -> dict[str, dict[str, Match]]:
    """The optima that coordinate descent reaches from the evidence there is."""
    kinds = {"activations": activations, "weights": weights}
    found: dict[str, dict[str, Match]] = {}

    def descend(name: str, evidence: exact_maps.Evidence, start: str | None = None) -> None:
        before, store = found[start] if start else {}, choices.store.of(descent=name)
        found[name] = exact_maps.exact(spec, evidence, before, store, choices.progress, nothing)

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


# Learned maps start from the exact ones.
METHODS: dict[str, Method] = {"none": align_none, "flow": align_flow, "exact": align_exact, "learned": align_exact}
