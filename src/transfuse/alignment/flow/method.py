"""Align by the paper's transport maps, found layer by layer (TF-OT)."""

from collections.abc import Callable, Mapping
from functools import partial
from operator import mul

from transfuse.activations.cache import cached_moments
from transfuse.activations.hook_points import HookPoint, input_points, output_points
from transfuse.activations.hooks import collect_moments
from transfuse.activations.project import project_moments
from transfuse.activations.token_filter import TokenFilter
from transfuse.alignment.exact import evidence as exact_evidence
from transfuse.alignment.flow import flow as flow_maps
from transfuse.alignment.flow.activation_norms import activation_norms
from transfuse.alignment.flow.heads import head_counts, query_factors, without_scales
from transfuse.alignment.flow.options import token_filters, variant
from transfuse.alignment.flow.policy import WEIGHTED, ActivationNorms
from transfuse.alignment.flow.stack import stack, unstack
from transfuse.alignment.interface import AlignContext, Alignment
from transfuse.alignment.match_store import LazyMaps, MatchStore
from transfuse.alignment.spec_for import flow_spec
from transfuse.alignment.transform import transform_all
from transfuse.base.lazy import Lazy
from transfuse.checkpoint.reading.ties import is_tied
from transfuse.config.flow_options import FlowOptions
from transfuse.errors import ConfigError
from transfuse.network.compatible import check_same_nested
from transfuse.network.model import Network, with_tied
from transfuse.network.spec import Spec
from transfuse.network.width_factors import width_factors
from transfuse.transport.cost import Moments


def align_flow(anchor: Network, source: Network, context: AlignContext) -> Alignment:
    """Carry the source into the anchor's basis by transport maps, found layer by layer (TF-OT). Widths may differ."""
    options, kind = context.flow, context.match_on
    if kind == "both":
        raise ConfigError("align flow takes its evidence from activations or from weights, not from both; choose one")
    check_effects(options, source)
    spec, target = (flow_spec(each.spec, options) for each in (source, anchor))
    check_same_nested(anchor, source, partial(flow_spec, options=options))
    select = token_filters(options, anchor, context.batches)
    source_tensors, anchor_tensors = stack(spec, source.tensors), stack(target, anchor.tensors)
    evidence = flow_maps.from_weights(spec, source_tensors, anchor_tensors)
    nested = exact_evidence.from_weights(spec, source_tensors, anchor_tensors, target)
    if kind == "activations":
        activations = _activations(anchor, source, spec, context, select)
        evidence = flow_maps.from_activations(activations, evidence, options.values)
        nested = exact_evidence.with_fallback(exact_evidence.from_activations(activations), nested)
    matches = flow_maps.flow(
        spec,
        evidence,
        variant(options, kind, _head_counts(source, anchor)),
        _junction_norms(anchor, target, context, select),
        nested,
        MatchStore(context.store.of(align="flow", evidence=kind, options=options.model_dump())),
        context.progress,
    )
    carried = unstack(transform_all(spec, source_tensors, LazyMaps(matches)))
    factors = width_factors(source.model, source.spec, anchor.spec) | query_factors(source.spec, anchor.spec)
    for name, factor in factors.items():
        carried.change(name, partial(mul, factor))
    keep_anchor_parts(options, anchor, source, carried)
    return Alignment(spec, anchor.tensors, source.materialize(carried), matches)


def check_effects(options: FlowOptions, network: Network) -> None:
    """Raise `ConfigError` for parts to keep that a network lacks, and for options of heads that are never mixed."""
    for part in options.keep:
        if not network.spec.part(part):
            tied = part == "head" and is_tied(network.model)
            why = (
                "this model's head is its embeddings; write embeddings" if tied else "this model has none; leave it out"
            )
            raise ConfigError(f"flow.keep: {part}: {why}")
    mixes_heads = bool(head_counts(without_scales(network.spec)))
    for name, value, default in (("queries", options.queries, "separate"), ("heads", options.heads, "crossed")):
        if value != default and not mixes_heads:
            why = "this model's heads are matched to heads, and each of them on its own; leave it out"
            raise ConfigError(f"flow.{name}: {value}: {why}")


def _activations(
    anchor: Network, source: Network, spec: Spec, context: AlignContext, select: Callable[[HookPoint], TokenFilter]
) -> Mapping[HookPoint, Moments]:
    """Return the moments of what both models' layers write, and of what they read where the options ask for it."""
    options = context.flow
    points = output_points(spec) if options.values == "values" else [*output_points(spec), *input_points(spec)]
    collect = partial(collect_moments, source.model, anchor.model, batches=context.batches, select=select)
    cached = partial(
        cached_moments,
        context.store,
        collect=collect,
        room=context.room,
        device=anchor.model.device,
        tokens=options.tokens,
    )
    return project_moments(source.model, anchor.model, points, cached)


def _junction_norms(
    anchor: Network, spec: Spec, context: AlignContext, select: Callable[[HookPoint], TokenFilter]
) -> dict[str, ActivationNorms]:
    """Return how strongly the anchor's units are active, which the weighted policies need; nothing for the others."""
    options = context.flow
    if options.policy not in WEIGHTED:
        return {}
    if not context.batches:
        raise ConfigError(f"policy {options.policy} weights by activations; give --data, or choose mean")
    return activation_norms(spec, anchor.model, context.batches, select)


def _head_counts(source: Network, anchor: Network) -> dict[str, tuple[int, int]]:
    """Return the number of heads in the source and in the anchor, by the name of each flat attention space."""
    source_counts, anchor_counts = (head_counts(without_scales(each.spec)) for each in (source, anchor))
    return {name: (count, anchor_counts[name]) for name, count in source_counts.items()}


def keep_anchor_parts(options: FlowOptions, anchor: Network, source: Network, carried: Lazy) -> None:
    """Replace the carried tensors of the parts to keep, and those tied to them, by the anchor's."""
    kept = with_tied(source.model, {name for part in options.keep for name in source.spec.part(part)})
    for name in kept.intersection(carried):
        carried.replace(name, anchor.tensors)
