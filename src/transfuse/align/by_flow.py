"""The paper's way: transport maps layer by layer (TF-OT)."""

from dataclasses import asdict
from functools import partial

from torch import Tensor

from transfuse.align import exact as exact_maps
from transfuse.align import flow as flow_maps
from transfuse.align.aligned import Aligned, Choices
from transfuse.align.evidence import collect, inputs, outputs
from transfuse.align.expand import expanded
from transfuse.align.heads import head_counts, without_scales
from transfuse.align.kept import collected
from transfuse.align.paper import ordered, selection, variant, withheld
from transfuse.align.policy import WEIGHTED
from transfuse.align.shelf import Shelf
from transfuse.align.stack import stack, unstack
from transfuse.align.strength import released_strengths, strengths
from transfuse.align.views import flow_spec
from transfuse.errors import ConfigError
from transfuse.merge.apply import carry_all
from transfuse.network.compatible import check_same_nested
from transfuse.network.model import Network, with_twins


def align_flow(anchor: Network, source: Network, choices: Choices) -> Aligned:
    """Transport maps layer by layer (TF-OT). Widths may differ."""
    options, kind = choices.paper, choices.evidence
    if kind == "both":
        raise ConfigError("align flow takes its evidence from activations or from weights, not from both; choose one")
    spec, target = (flow_spec(each.spec, options) for each in (source, anchor))
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
