"""The paper's way: transport maps layer by layer (TF-OT)."""

from dataclasses import asdict
from functools import partial

from torch import Tensor, nn

from transfuse.activations.cache import cached_moments
from transfuse.activations.hooks import collect_moments, input_points, output_points
from transfuse.activations.project import project_moments
from transfuse.alignment.exact import evidence as views
from transfuse.alignment.flow import flow as flow_maps
from transfuse.alignment.flow import released
from transfuse.alignment.flow.activation_norms import activation_norms, released_strengths
from transfuse.alignment.flow.heads import head_counts, without_scales
from transfuse.alignment.flow.options import ordered, selection, variant
from transfuse.alignment.flow.policy import WEIGHTED
from transfuse.alignment.flow.released import Route
from transfuse.alignment.flow.stack import stack, unstack
from transfuse.alignment.interface import AlignContext, Alignment
from transfuse.alignment.match_store import MatchStore
from transfuse.alignment.spec_for import flow_spec
from transfuse.alignment.transform import transform_all
from transfuse.base.lazy import Lazy, Tensors
from transfuse.config.literals import FlowOptions
from transfuse.errors import ConfigError
from transfuse.network.compatible import check_same_nested
from transfuse.network.model import Network, with_tied
from transfuse.network.spec import Spec


def align_flow(anchor: Network, source: Network, choices: AlignContext) -> Alignment:
    """Transport maps layer by layer (TF-OT). Widths may differ."""
    options, kind = choices.flow, choices.evidence
    if kind == "both":
        raise ConfigError("align flow takes its evidence from activations or from weights, not from both; choose one")
    spec, target = (flow_spec(each.spec, options) for each in (source, anchor))
    ours, theirs = stack(target, anchor.tensors), stack(spec, source.tensors)
    select = selection(options, spec)
    check_same_nested(anchor, source, partial(flow_spec, options=options))
    way, widened = Route(spec), set[str]()
    if options.rules == "released":
        way = released.route(options, spec)
        widened = released.widened(way.spec, target)
        released.check_widths(options, way, source.spec, anchor.spec)
    evidence = flow_maps.from_weights(spec, theirs, ours)
    nested = views.from_weights(way.spec, theirs, ours, target)
    if kind == "activations":
        probes = output_points(spec) if options.values == "values" else [*output_points(spec), *input_points(spec)]
        models = source.model, anchor.model
        look = partial(collect_moments, *models, batches=choices.batches, select=select)
        keep = partial(cached_moments, choices.store, collect=look, room=choices.room, tokens=options.tokens)
        seen = project_moments(*models, ordered(options, probes), partial(keep, rules=options.rules))
        evidence = flow_maps.from_activations(seen, evidence, options.values)
        nested = views.with_fallback(views.from_activations(seen), nested)
    weights: dict[str, Tensor] = {}
    if options.policy in WEIGHTED:
        if not choices.batches:
            raise ConfigError(f"policy {options.policy} weighs by activations; give --data, or choose mean")
        weights = _weights(target, anchor.model, choices)
    counts = [head_counts(without_scales(each.spec)) for each in (source, anchor)]
    heads = {name: (count, counts[1][name]) for name, count in counts[0].items()}
    shelf = MatchStore(choices.store.of(align="flow", evidence=kind, options=asdict(options)))
    chosen = variant(options, kind, heads, widened)
    matches = flow_maps.flow(way.spec, evidence, chosen, weights, nested, shelf, choices.progress)
    maps = {name: match.map for name, match in matches.items() if name not in way.withheld}
    carried = unstack(transform_all(spec, theirs, maps))
    held = _keep(options, anchor, source, carried)
    return Alignment(spec, held, source.hold(carried), matches)


def _weights(spec: Spec, anchor: nn.Module, choices: AlignContext) -> dict[str, Tensor]:
    """How strongly the anchor's units are active, for the weighted policies."""
    options = choices.flow
    if options.rules == "corrected":
        return activation_norms(spec, anchor, choices.batches, selection(options, spec))
    # As released, the attention output of the seventh block is weighed by all tokens, but matched by the class token.
    select = selection(options, spec, seventh=("fc2",))
    return released_strengths(spec, anchor, choices.batches, select, options.transform)


def _keep(options: FlowOptions, anchor: Network, source: Network, carried: Lazy) -> Tensors:
    """Put the tensors that are kept into the carried ones; gives the anchor's, changed where the source's are kept."""
    as_released = options.rules == "released"
    parts = [part for part in options.keep if not (as_released and part in released.FROM_SOURCE)]
    kept = with_tied(source.model, {name for part in parts for name in source.spec.part(part)})
    for name in kept.intersection(carried):
        carried.replace(name, anchor.tensors)
    own = released.kept(options, source.spec) if as_released else {}
    if not own:
        return anchor.tensors
    held = Lazy.of(anchor.tensors)
    theirs = Lazy({name: partial(source.tensors.__getitem__, origin) for name, origin in own.items()})
    for name in own:
        carried.replace(name, theirs)
        held.replace(name, theirs)
    return held
