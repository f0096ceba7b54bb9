"""The figures of a report, as SVG elements with captions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile

import matplotlib

from transfuse.alignment.interface import Alignment
from transfuse.evaluation.measures import loss_unit
from transfuse.network.block_numbers import block_number, kind_name
from transfuse.report.facts import Facts, MatchedSpace, Measurement
from transfuse.report.names import reference_words
from transfuse.report.plots import Series, as_svg, depth_figure, path_figure, plan_figure
from transfuse.report.words import kind_words, space_words
from transfuse.transport.maps import Map, Permutation

ROUNDING = 1e-6  # largest deviation of an exact map
MAX_PLANS = 3  # heat maps
SIMILARITY, SUPPORT, DEVIATION = "cosine similarity", "support (share)", "deviation"
CAPTIONS = {
    SIMILARITY: "Cosine similarity: the mean over matched units of the cosine between their weights in both models, 1"
    " for equal units and 0 for unrelated ones.",
    SUPPORT: "Support: the share of the anchor's units that each unit is mapped to.",
    DEVIATION: "Deviation: how far the map is from one that keeps the function. Exact maps are left out.",
}

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
    """Plot the diagnostics of the first source's spaces over the blocks, without what is constant by construction."""
    spaces = [space for space in facts.matched if space.model == 1 and space.block is not None]
    panels = _diagnostics_by_kind(spaces)
    if len({space.block for space in spaces}) < 2 or not panels:
        return None
    summary = "; ".join(
        f"{panel}: {', '.join(f'{kind} {_mean(curve):.2f} on average' for kind, curve in series.items())}"
        for panel, series in panels.items()
    )
    captions = " ".join(CAPTIONS[panel] for panel in panels)
    others = " Only the first source is shown." if len(facts.record["alignments"]) > 1 else ""
    figure = depth_figure(panels, from_zero=True)
    return Figure("Matched units by depth", f"By block, {summary}.", captions + others, as_svg(figure, "depth"))


def _diagnostics_by_kind(spaces: Sequence[MatchedSpace]) -> dict[str, dict[str, Points]]:
    """Return the curves of each panel. Exact maps have no support to show, and their deviation is zero."""
    soft = {space.kind for space in spaces if not is_exact(space)}
    panels: dict[str, dict[str, Points]] = {}
    for space in spaces:
        values: dict[str, float | None] = {SIMILARITY: space.cosine_similarity}
        if space.kind in soft:
            values[SUPPORT] = space.diagnostics["effective_support"] / space.diagnostics["target_units"]
            values[DEVIATION] = space.diagnostics["exactness"]
        for panel, value in values.items():
            if value is not None:
                panels.setdefault(panel, {}).setdefault(kind_words(space.kind), []).append((space.block or 0, value))
    return panels


def is_exact(space: MatchedSpace) -> bool:
    """Return whether the map of a space keeps the function of the network, up to rounding."""
    return space.diagnostics["exactness"] <= ROUNDING


def _mean(curve: Points) -> float:
    return sum(y for _, y in curve) / len(curve)


def _least_squares(facts: Facts) -> Figure | None:
    """Plot what fitting gained in each layer, by the names of layers without what all of them begin with."""
    fits = {name: fit["gain"] for name, fit in facts.record.get("least_squares", {}).items()}
    gains = {name: gain for name, gain in fits.items() if gain is not None and block_number(name) is not None}
    if not gains:
        return None
    parents = [kind_name(name).split(".")[:-1] for name in gains]
    shared = list(takewhile(lambda parts: len(set(parts)) == 1, zip(*parents, strict=False)))
    series: dict[str, Points] = {}
    for name, value in gains.items():
        layer = ".".join(kind_name(name).split(".")[len(shared) :])
        series.setdefault(layer, []).append((block_number(name) or 0, value))
    layer, gain = max(gains.items(), key=lambda item: item[1])
    before = (
        "weights of the large model in the small shape" if "shrunk" in facts.record else "mean of the aligned weights"
    )
    return Figure(
        "Gain of least squares by layer",
        f"Gain by block and layer; the largest is {gain:.0%}, of {layer}.",
        f"The share of each layer's error on held-out samples that the fit removed, compared with the {before}.",
        as_svg(depth_figure({"gain (share)": series}, from_zero=True), "gains"),
    )


def _training(facts: Facts) -> Figure | None:
    """Plot the validation losses of learned maps, of learned weights, or of both."""
    series: dict[str, Points] = {}
    unit, selection = "nats", " The step with the lowest loss was selected."
    for name, key in (("maps", "learning"), ("weights", "learned_weights")):
        history = facts.record.get(key)
        if history:
            unit = history.get("unit", unit)
            steps = history.get("validated") or range(len(history["excess"]))  # records of former versions lack them
            series[name] = list(zip(steps, history["excess"], strict=True))
            lowest = min(history["excess"])
            if history.get("refitted") or history.get("reached", lowest) != lowest:
                selection = ""  # the result is another model than any of the curve
    if not series:
        return None
    shown = "in nats" if unit == "nats" else "relative to it"
    reference = reference_words(facts.record)
    changes = (f"{name} from {curve[0][1]:.3f} to {min(y for _, y in curve):.3f}" for name, curve in series.items())
    return Figure(
        "Validation loss in training",
        f"Validation loss minus that of {reference}, {shown}: {', '.join(changes)}.",
        f"The loss on held-out samples against the training targets, minus the mean loss of {reference}.{selection}",
        as_svg(depth_figure({"excess loss": series}, "step"), "training"),
    )


def _selected_plans(alignments: Sequence[Alignment]) -> Mapping[str, Map]:
    """Return the first source's maps to plot: the middle one of each kind, the largest first; no permutations."""
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
    words = space_words(name)
    return Figure(
        f"Map: {words}",
        f"Heat map of {source} by {target} units; each is mapped to {support:.1f} on average.",
        "Each row is a unit of the first source and shows its shares of the anchor's units (for a rotation, the squared"
        " entries). Rows are sorted so that matches are on the diagonal."
        f" Effective support: {support:.1f} of {target}.",
        as_svg(plan_figure(map_.plan(), words), f"plan-{name.replace('.', '-')}"),
    )
