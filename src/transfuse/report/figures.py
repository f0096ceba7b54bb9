"""The figures of a report, as SVG elements with captions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib

from transfuse.alignment.interface import Alignment
from transfuse.evaluation.measures import loss_unit
from transfuse.fusion.plan import BLOCK, kind_name
from transfuse.report.facts import Facts, MatchedSpace, Measurement
from transfuse.report.plots import Series, as_svg, depth_figure, path_figure, plan_figure
from transfuse.transport.maps import Map, Permutation

ROUNDING = 1e-6  # largest deviation of an exact map
MAX_PLANS = 3  # heat maps

Points = list[tuple[float, float]]


@dataclass(frozen=True)
class Figure:
    """A figure of the page. `alt` describes it for those who cannot see it."""

    title: str
    alt: str
    caption: str
    svg: str


def figures(facts: Facts, alignments: Sequence[Alignment]) -> list[Figure]:
    """Return all figures that the facts and the alignments permit."""
    with matplotlib.rc_context({"text.parse_math": False}):  # names may contain dollar signs
        optional = (_paths(facts), _similarity(facts), _least_squares(facts), _training(facts))
        plans = [_plan(name, map_) for name, map_ in _selected_plans(alignments).items()]
        return [figure for figure in optional if figure is not None] + plans


def _paths(facts: Facts) -> Figure | None:
    measured = facts.measured
    if measured is None or not measured.lines:
        return None
    unit = loss_unit(measured.measures)
    barriers = "; ".join(f"{name}: barrier {line.barrier:.3f}{unit}" for name, line in measured.lines.items())
    figure = path_figure(measured.lines, _fusion_point(facts, measured), accuracy=measured.headline == "accuracy")
    return Figure(
        "Loss between the models",
        f"Loss along the line between models. {barriers}.",
        "The straight line from the anchor (left) to another model in the anchor's basis (right). If that model kept"
        " its function, the line ends at its own loss. The barrier is the largest excess of the loss over the line"
        " between the parents' losses.",
        as_svg(figure, "path"),
    )


def _fusion_point(facts: Facts, measured: Measurement) -> Series:
    """Return the point of a fusion of two models, if fitted layers moved it off the line."""
    weights = [model["weight"] for model in facts.record["models"]]
    if len(weights) > 2 or "least_squares" not in facts.record:
        return {}
    (fusion,) = measured.of("fusion")
    return {"the fusion": [(weights[1], fusion.metrics.loss)]}


def _similarity(facts: Facts) -> Figure | None:
    """Plot the diagnostics of the first source's spaces over the blocks."""
    spaces = [space for space in facts.matched if space.model == 1 and space.block is not None]
    if len({space.block for space in spaces}) < 2:
        return None
    panels = _diagnostics_by_kind(spaces)
    varying = {name: series for name, series in panels.items() if _is_nonzero(series)}
    means = {kind: sum(y for _, y in curve) / len(curve) for kind, curve in panels["cosine similarity"].items()}
    summary = ", ".join(f"mean cosine similarity of {kind} {value:.2f}" for kind, value in means.items())
    return Figure(
        "Matched units by depth",
        f"By block and kind of unit: {summary}.",
        "Cosine similarity: the mean over matched units of the cosine between their weights in both models, 1 for equal"
        " units and 0 for unrelated ones. Support: the share of the anchor's units that each unit is mapped to."
        " Exactness: how far the map is from one that keeps the function, 0 for exact maps (omitted if all are)."
        + (" Only the first source is shown." if len(facts.record["alignments"]) > 1 else ""),
        as_svg(depth_figure(varying), "depth"),
    )


def _diagnostics_by_kind(spaces: Sequence[MatchedSpace]) -> dict[str, dict[str, Points]]:
    panels: dict[str, dict[str, Points]] = {"cosine similarity": {}, "support (share)": {}, "exactness": {}}
    for space in spaces:
        diagnostics = space.diagnostics
        values = {
            "cosine similarity": space.cosine_similarity,
            "support (share)": diagnostics["effective_support"] / diagnostics["target_units"],
            "exactness": diagnostics["exactness"],
        }
        for name, value in values.items():
            if value is not None:
                panels[name].setdefault(space.kind, []).append((space.block or 0, value))
    return panels


def _is_nonzero(series: Mapping[str, Points]) -> bool:
    return any(y > ROUNDING for curve in series.values() for _, y in curve)


def _least_squares(facts: Facts) -> Figure | None:
    series: dict[str, Points] = {}
    for name, fit in facts.record.get("least_squares", {}).items():
        block = BLOCK.search(name)
        if block and fit["gain"] is not None:
            series.setdefault(kind_name(name).split(".", 1)[-1], []).append((int(block[2]), fit["gain"]))
    if not series:
        return None
    gain, layer = max((value, name) for name, curve in series.items() for _, value in curve)
    return Figure(
        "Gain of least squares by layer",
        f"Gain by block and layer; the largest is {gain:.0%}, of {layer}.",
        "The share of each layer's error on held-out samples that the fit removed, compared with the mean of the"
        " aligned weights.",
        as_svg(depth_figure({"gain": series}), "gains"),
    )


def _training(facts: Facts) -> Figure | None:
    """Plot the validation losses of learned maps, of learned weights, or of both."""
    series: dict[str, Points] = {}
    for name, key in (("maps", "learning"), ("weights", "learned_weights")):
        history = facts.record.get(key)
        if history:
            steps = history.get("validated") or range(len(history["excess"]))  # records of former versions lack them
            series[name] = list(zip(steps, history["excess"], strict=True))
    if not series:
        return None
    changes = (f"{name} from {curve[0][1]:.3f} to {min(y for _, y in curve):.3f}" for name, curve in series.items())
    return Figure(
        "Validation loss in training",
        f"Validation loss minus the parents' loss, in nats: {', '.join(changes)}.",
        "The loss on held-out samples against the training targets, minus the mean loss of the parents. The step with"
        " the lowest loss was selected.",
        as_svg(depth_figure({"excess loss": series}, "step"), "training"),
    )


def _selected_plans(alignments: Sequence[Alignment]) -> Mapping[str, Map]:
    """Return the first source's maps to plot: the middle one of each kind that is no permutation, the largest first."""
    names: dict[str, list[str]] = {}
    matches = alignments[0].matches if alignments else {}
    for name, match in matches.items():
        map_ = match.map
        if map_.parent_axes == 0 and not isinstance(map_, Permutation) and max(map_.units) > 1:
            names.setdefault(kind_name(name), []).append(name)
    middle = [same_kind[len(same_kind) // 2] for same_kind in names.values()]
    largest = sorted(middle, key=lambda name: -max(matches[name].map.units))[:MAX_PLANS]
    return {name: matches[name].map for name in largest}


def _plan(name: str, map_: Map) -> Figure:
    source, target = map_.units
    support = map_.support()
    return Figure(
        f"The map of {name}",
        f"Heat map of {source} by {target} units; each is mapped to {support:.1f} on average.",
        "Each row is a unit of the first source and shows its shares of the anchor's units (for a rotation, the squared"
        " entries). Rows are sorted so that matches are on the diagonal."
        f" Effective support: {support:.1f} of {target}.",
        as_svg(plan_figure(map_.plan(), name), f"plan-{name.replace('.', '-')}"),
    )
