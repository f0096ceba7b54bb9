"""The alignments a user can choose: each carries a source into the anchor's basis."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor
from transformers import PreTrainedModel

from transfuse.align import exact as exact_maps
from transfuse.align import flow as flow_maps
from transfuse.align.evidence import Batch, collect, outputs
from transfuse.align.policy import average
from transfuse.errors import ConfigError
from transfuse.merge.apply import carry_all
from transfuse.network.compatible import check_same_widths
from transfuse.network.spec import Spec
from transfuse.network.symmetry import fold, symmetric
from transfuse.transport import cost
from transfuse.transport.maps import Map
from transfuse.transport.solve import Match, Solver, entropic, exact, uniform

Tensors = Mapping[str, Tensor]
Evidence = Literal["activations", "weights", "both"]
Plan = Literal["soft", "hard", "uniform"]

# The authors' best for ViT, relative to the largest cost (TF-OT, appendix).
REGULARISATION = {"activations": 0.08, "weights": 0.06}
# Weight evidence counts this many times as much as activation evidence where both are used (docs/log.md).
WEIGHT_SHARE = 10.0


@dataclass(frozen=True)
class Network:
    """A loaded model, its declaration, and its tensors in the precision of the computation."""

    model: PreTrainedModel
    spec: Spec
    tensors: Tensors


@dataclass(frozen=True)
class Choices:
    """What an alignment lets a user choose. `batches` is empty where there is no data."""

    evidence: Evidence
    batches: Sequence[Batch] = ()
    plan: Plan = "soft"
    regularization: float | None = None


@dataclass(frozen=True)
class Aligned:
    """A source in the anchor's basis. `anchor` is the anchor in that same basis: folded, where norms are."""

    spec: Spec
    anchor: Tensors
    carried: Tensors
    matches: Mapping[str, Match] = field(default_factory=dict)


Method = Callable[[Network, Network, Choices], Aligned]


def align_none(anchor: Network, source: Network, choices: Choices) -> Aligned:
    """Leave the source as it is: the plain average."""
    check_same_widths(anchor.spec, source.spec, "none")
    return Aligned(source.spec, anchor.tensors, source.tensors)


def align_flow(anchor: Network, source: Network, choices: Choices) -> Aligned:
    """Transport maps layer by layer (TF-OT). Widths may differ."""
    if choices.evidence == "both":
        raise ConfigError("align flow takes its evidence from activations or from weights, not from both; choose one")
    spec = flow_maps.cross_head(source.spec)
    if choices.evidence == "activations":
        seen = collect(source.model, anchor.model, outputs(spec), choices.batches)
        evidence, transform = flow_maps.from_activations(seen), cost.standardise
    else:
        evidence, transform = flow_maps.from_weights(spec, source.tensors, anchor.tensors), cost.normalise
    matches = flow_maps.flow(
        spec, evidence, lambda seen: cost.by_maximum(cost.euclidean(transform(seen))), _solver(choices), average
    )
    return Aligned(spec, anchor.tensors, carry_all(spec, source.tensors, _maps(matches)), matches)


def _solver(choices: Choices) -> Solver:
    if choices.plan == "hard":
        return exact
    if choices.plan == "uniform":
        return uniform
    return entropic(choices.regularization or REGULARISATION[choices.evidence])


def align_exact(anchor: Network, source: Network, choices: Choices) -> Aligned:
    """The best element of every exact symmetry: the source keeps its function."""
    check_same_widths(anchor.spec, source.spec, "exact")
    spec = symmetric(source.spec)
    ours, theirs = fold(spec, anchor.tensors), fold(spec, source.tensors)
    looks: list[tuple[exact_maps.Evidence, float]] = []
    if choices.evidence != "weights":
        seen = collect(source.model, anchor.model, exact_maps.probes(spec), choices.batches, exact_maps.unit_tokens)
        looks.append((exact_maps.from_activations(seen), 1.0))
    if choices.evidence != "activations":
        looks.append((exact_maps.from_weights(spec, theirs, ours), WEIGHT_SHARE))
    matches = exact_maps.exact(spec, exact_maps.combine(looks))
    return Aligned(spec, ours, carry_all(spec, theirs, _maps(matches)), matches)


def _maps(matches: Mapping[str, Match]) -> dict[str, Map]:
    return {name: match.map for name, match in matches.items()}


METHODS: dict[str, Method] = {"none": align_none, "flow": align_flow, "exact": align_exact}
