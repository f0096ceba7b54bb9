"""Draw the schematic pictures of the documentation, `docs/pictures`. They show no measurements.

python benchmarks/drawings.py
"""

from collections.abc import Sequence

from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyBboxPatch
from themes import Theme, bare, draw

Point = tuple[float, float]


def box(axes: Axes, theme: Theme, middle: Point, text: str, size: Point = (1.5, 0.6), edge: str | None = None) -> None:
    """Draw a rounded box with a name in it."""
    corner = (middle[0] - size[0] / 2, middle[1] - size[1] / 2)
    axes.add_patch(
        FancyBboxPatch(corner, *size, boxstyle="round,pad=0,rounding_size=0.12", fc=theme.paper, ec=edge or theme.ink)
    )
    axes.text(*middle, text, ha="center", va="center", fontsize=9.5)


def arrow(axes: Axes, start: Point, end: Point, color: str, text: str = "", shift: Point = (0, 0.18)) -> None:
    """Draw an arrow in the color of the space that it carries."""
    axes.annotate(
        "", end, start, arrowprops={"arrowstyle": "-|>", "color": color, "lw": 2.2, "shrinkA": 0, "shrinkB": 0}
    )
    if text:
        middle = ((start[0] + end[0]) / 2 + shift[0], (start[1] + end[1]) / 2 + shift[1])
        axes.text(*middle, text, color=color, ha="center", va="center", fontsize=9.5)


def wire(axes: Axes, points: Sequence[Point], color: str) -> None:
    """Draw a line with corners."""
    axes.plot(*zip(*points, strict=True), color=color, lw=2.2, solid_joinstyle="round")


def plus(axes: Axes, theme: Theme, place: Point) -> None:
    """Draw a residual addition."""
    axes.add_patch(Circle(place, 0.24, fc=theme.paper, ec=theme.stream, lw=1.8, zorder=3))
    axes.text(*place, "+", ha="center", va="center", fontsize=13, color=theme.stream, zorder=4)


def block(theme: Theme) -> Figure:
    """Draw a Transformer block and the spaces that its tensors write and read."""
    figure, axes = pyplot.subplots(figsize=(7.2, 4.5), layout="constrained")
    bare(axes, 12.6, 7.9)
    half(axes, theme, 6.5, ("norm", "Q, K, V", "attention", "O"), (theme.heads, theme.heads), "heads × channels")
    half(axes, theme, 3.1, ("norm", "up", "activation", "down"), (theme.hidden, theme.hidden), "hidden units")
    wire(axes, [(11.6, 5.2), (12.2, 5.2), (12.2, 4.3), (0.4, 4.3), (0.4, 1.8)], theme.stream)
    keys = {
        "stream: one rotation": theme.stream, "heads: matched, channels rotated within": theme.heads,
        "hidden units: permuted": theme.hidden,
    }  # fmt: skip
    for (text, color), place in zip(keys.items(), (0.4, 3.9, 9.4), strict=True):
        wire(axes, [(place, 0.35), (place + 0.4, 0.35)], color)
        axes.text(place + 0.5, 0.35, text, va="center", fontsize=8.5)
    return figure


def half(
    axes: Axes, theme: Theme, height: float, names: tuple[str, str, str, str], colors: tuple[str, str], text: str
) -> None:
    """Draw a branch above the residual stream."""
    skip, places = height - 1.3, (2.6, 4.9, 7.4, 9.7)
    wire(axes, [(0.4, skip), (11.1, skip)], theme.stream)
    wire(axes, [(1.2, skip), (1.2, height)], theme.stream)
    arrow(axes, (1.2, height), (places[0] - 0.75, height), theme.stream)
    arrow(axes, (places[0] + 0.75, height), (places[1] - 0.75, height), theme.stream)
    arrow(axes, (places[1] + 0.75, height), (places[2] - 0.75, height), colors[0])
    arrow(axes, (places[2] + 0.75, height), (places[3] - 0.75, height), colors[1])
    for place, name in zip(places, names, strict=True):
        box(axes, theme, (place, height), name)
    axes.text((places[1] + places[3]) / 2, height + 0.6, text, color=colors[0], ha="center", fontsize=9.5)
    wire(axes, [(places[3] + 0.75, height), (11.35, height)], theme.stream)
    arrow(axes, (11.35, height), (11.35, skip + 0.24), theme.stream)
    plus(axes, theme, (11.35, skip))


def averaging(theme: Theme) -> Figure:
    """Draw two networks with the same function, and their mean before and after alignment."""
    figure, panels = pyplot.subplots(1, 4, figsize=(7.2, 2.3), layout="constrained")
    marks = (theme.stream, theme.learned, theme.channels)
    mixed = (theme.none,) * 3
    titles = (
        "A",
        "B: the same function,\nunits in another order",
        "mean of A and B,\nnot aligned",
        "mean of A and B,\naligned",
    )
    shown = (marks, (marks[2], marks[0], marks[1]), mixed, marks)
    for axes, title, colors in zip(panels, titles, shown, strict=True):
        net(axes, theme, colors)
        axes.set_title(title, fontsize=9.5)
    return figure


def net(axes: Axes, theme: Theme, colors: Sequence[str]) -> None:
    """Draw two inputs, three hidden units and one output. Edges have the color of their hidden unit."""
    bare(axes, 4, 4)
    inputs, hidden, output = [(1.2, 0.5), (2.8, 0.5)], [(0.7, 2), (2, 2), (3.3, 2)], (2, 3.5)
    for unit, color in zip(hidden, colors, strict=True):
        for place in (*inputs, output):
            axes.plot(*zip(unit, place, strict=True), color=color, lw=2)
        axes.add_patch(Circle(unit, 0.34, fc=color, ec=theme.ink, zorder=3))
    for place in (*inputs, output):
        axes.add_patch(Circle(place, 0.3, fc=theme.paper, ec=theme.ink, zorder=3))


def layers(theme: Theme) -> Figure:
    """Draw the inputs and targets of a fitted layer."""
    figure, axes = pyplot.subplots(figsize=(7.2, 3.4), layout="constrained")
    bare(axes, 12.6, 5.9)
    rows = (("parent A", 5.2, theme.one), ("fused", 2.95, theme.ink), ("parent B,\naligned", 0.7, theme.other))
    for name, height, color in rows:
        axes.text(0.85, height, name, ha="center", va="center", fontsize=9.5, color=color)
        places = (2.9, 5.4, 7.9, 10.9)
        for start, end in zip((1.65, *(place + 0.75 for place in places)), (*(place - 0.75 for place in places), 12.5),
                              strict=True):  # fmt: skip
            arrow(axes, (start, height), (end, height), color)
        for index, place in enumerate(places):
            box(axes, theme, (place, height), f"layer {index + 1}", edge=color)
    fused = rows[1][1]
    for place, text in ((2.9, "fitted"), (5.4, "fitted"), (7.9, "now"), (10.9, "later")):
        axes.text(
            place,
            fused - 0.55,
            text,
            ha="center",
            va="center",
            fontsize=9,
            color=theme.exact if text == "now" else theme.none,
        )
    target = (9.15, fused)
    for _, height, color in (rows[0], rows[2]):
        axes.annotate(
            "", (target[0], fused + (0.18 if height > fused else -0.18)), (9.15, height),
            arrowprops={"arrowstyle": "-|>", "color": color, "lw": 1.6, "ls": "--"},
        )  # fmt: skip
    axes.text(9.3, 4.15, "target: mean of\nthe parents' outputs", fontsize=9, va="center")
    axes.text(6.55, 3.75, "input: from the\nfused model", fontsize=9, ha="center", va="center")
    axes.annotate("", (6.65, fused + 0.1), (6.55, 3.4), arrowprops={"arrowstyle": "-", "color": theme.none})
    return figure


def main() -> None:
    draw("averaging", averaging)
    draw("block", block)
    draw("layers", layers)


if __name__ == "__main__":
    main()
