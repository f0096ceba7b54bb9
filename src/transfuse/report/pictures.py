"""The pictures of a report, as SVG elements with words beside them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib

from transfuse.alignment.interface import Alignment
from transfuse.distillation.loop import VALIDATION_INTERVAL
from transfuse.fusion.plan import BLOCK, kind
from transfuse.report.facts import Facts, Measurement
from transfuse.report.plots import Series, as_svg, depth_figure, path_figure, plan_figure
from transfuse.transport.maps import Map, Permutation

TINY = 1e-6  # what rounding leaves of an exact map
PLANS = 3  # heat maps, at most


@dataclass(frozen=True)
class Figure:
    """`alt` says what is to be seen, for those who cannot."""

    title: str
    alt: str
    caption: str
    svg: str


def figures(facts: Facts, alignments: Sequence[Alignment]) -> list[Figure]:
    """Whatever there is to draw."""
    with matplotlib.rc_context({"text.parse_math": False}):  # names may hold dollars
        found = [*_way(facts), *_depth(facts), *_gains(facts), *_courses(facts)]
        return found + [_plan(name, found) for name, found in _plans(alignments).items()]


def _way(facts: Facts) -> list[Figure]:
    if facts.measured is None or not facts.measured.lines:
        return []
    lines = facts.measured.lines
    accuracy = "perplexity" not in facts.measured.measures
    barriers = "; ".join(f"{name}: barrier {line.barrier:.3f} nats" for name, line in lines.items())
    return [
        Figure(
            "From one parent to the other",
            f"Loss along the line between models. {barriers}.",
            "The straight line from the anchor (left) to another model (right), as it was carried into the anchor's"
            " basis. A model that was carried exactly ends where its parent is. The barrier is the largest excess of"
            " the loss over the line between the parents' losses.",
            as_svg(path_figure(lines, _point(facts, facts.measured), accuracy), "way"),
        )
    ]


def _point(facts: Facts, measured: Measurement) -> Series:
    """The fusion of two models, where fitted layers took it off the line."""
    weights = [model["weight"] for model in facts.record["models"]]
    if len(weights) > 2 or "least_squares" not in facts.record:
        return {}
    (fusion,) = measured.of("fusion")
    return {"the fusion": [(weights[1], fusion.metrics.loss)]}


def _depth(facts: Facts) -> list[Figure]:
    first = [each for each in facts.matched if each.model == 1 and each.block is not None]
    panels: dict[str, dict[str, list[tuple[float, float]]]] = {"agreement": {}, "support (share)": {}, "exactness": {}}
    for each in first:
        values = {
            "agreement": each.agreement,
            "support (share)": each.found["effective_support"] / each.found["target_units"],
            "exactness": each.found["exactness"],
        }
        for name, value in values.items():
            if value is not None:
                panels[name].setdefault(each.kind, []).append((each.block or 0, value))
    if not first or len({each.block for each in first}) < 2:
        return []
    moving = {
        name: series for name, series in panels.items() if any(y > TINY for curve in series.values() for _, y in curve)
    }
    means = {kind: sum(y for _, y in curve) / len(curve) for kind, curve in panels["agreement"].items()}
    return [
        Figure(
            "How well units match, by depth",
            "By block and kind of unit: "
            + ", ".join(f"mean agreement of {kind} {value:.2f}" for kind, value in means.items())
            + ".",
            "Agreement: the mean cosine between what matched units weigh in both models, 1 for the same and 0 for"
            " strangers. Support: over what share of the anchor's units each unit is spread. Exactness: how far the map"
            " is from one that keeps the function, 0 for exact ones (left out where all are)."
            + (" Of the first source." if len(facts.record["alignments"]) > 1 else ""),
            as_svg(depth_figure(moving), "depth"),
        )
    ]


def _gains(facts: Facts) -> list[Figure]:
    series: dict[str, list[tuple[float, float]]] = {}
    for name, fit in facts.record.get("least_squares", {}).items():
        block = BLOCK.search(name)
        if block and fit["gain"] is not None:
            series.setdefault(kind(name).split(".", 1)[-1], []).append((int(block[2]), fit["gain"]))
    if not series:
        return []
    best = max((value, name) for name, curve in series.items() for _, value in curve)
    return [
        Figure(
            "What least squares gained, by layer",
            f"Gain by block and layer; the largest is {best[0]:.0%}, of {best[1]}.",
            "Each layer's share of the error, on held-out samples, that fitting it took away from the mean of the"
            " aligned weights.",
            as_svg(depth_figure({"gain": series}), "gains"),
        )
    ]


def _courses(facts: Facts) -> list[Figure]:
    """How learning went: of maps, of weights, or of both."""
    series = {
        name: [
            (min(look * VALIDATION_INTERVAL, course["steps"]), excess) for look, excess in enumerate(course["excess"])
        ]
        for name, key in (("maps", "learning"), ("weights", "learned_weights"))
        if (course := facts.record.get(key))
    }
    if not series:
        return []
    ways = (f"of {name} from {curve[0][1]:.3f} to {min(y for _, y in curve):.3f}" for name, curve in series.items())
    return [
        Figure(
            "How learning went",
            f"Held-out loss over the parents' own, in nats: {', '.join(ways)}.",
            "On samples that were not learned from: how much less the model agrees with what should be said than its"
            " parents do on average. What was best there was kept.",
            as_svg(depth_figure({"excess loss": series}, "step"), "course"),
        )
    ]


def _plans(alignments: Sequence[Alignment]) -> Mapping[str, Map]:
    """Of the first source, the plan in the middle of each kind, the largest first; permutations have no shades."""
    spread: dict[str, list[str]] = {}
    matches = alignments[0].matches if alignments else {}
    for name, match in matches.items():
        if match.map.within == 0 and not isinstance(match.map.taken(), Permutation) and max(match.map.units) > 1:
            spread.setdefault(kind(name), []).append(name)
    middle = [names[len(names) // 2] for names in spread.values()]
    largest = sorted(middle, key=lambda name: -max(matches[name].map.units))[:PLANS]
    return {name: matches[name].map for name in largest}


def _plan(name: str, found: Map) -> Figure:
    (source, target), support = found.units, found.support()
    return Figure(
        f"How units of {name} went",
        f"Heat map of {source} by {target} units; each goes to {support:.1f} on average.",
        "Each row is a unit of the first source, spread over the anchor's units, in such an order that matches lie on"
        f" the diagonal (of a rotation, its squared entries); effective support {support:.1f} of {target}.",
        as_svg(plan_figure(found.plan(), name), f"plan-{name.replace('.', '-')}"),
    )
