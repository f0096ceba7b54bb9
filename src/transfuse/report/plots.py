"""Pictures, by matplotlib: lines between models, transport plans, what changes with depth."""

import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path as File
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from transfuse.evaluation.evaluate import LossPath
from transfuse.transport.assignment import assignment

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#999999")  # Okabe and Ito (2008)
MARKERS = "osD^vPX"
INK = "#010203"  # stands for the colour of the page's text
FINEST = 256  # entries of a heat map along each side

Series = Mapping[str, Sequence[tuple[float, float]]]
"""Points (x, y) of each curve, by its name."""


def path_figure(lines: Mapping[str, LossPath], points: Series | None = None, accuracy: bool = True) -> Figure:
    """Loss and accuracy along the lines, one curve per alignment.

    Args:
        points: single models besides: where they stand on the line, and their loss.
    """
    panels = 2 if accuracy else 1
    figure, every = pyplot.subplots(panels, 1, sharex=True, figsize=(6, 1 + 2.7 * panels), layout="constrained")
    top, bottom = (every[0], every[1]) if accuracy else (every, every)
    for index, (name, line) in enumerate(lines.items()):
        style = _style(index) | {"label": f"{name} (barrier {line.barrier:.3f})"}
        top.plot(line.positions, [point.loss for point in line.points], **style)
        if accuracy:
            bottom.plot(line.positions, [100 * point.accuracy for point in line.points], **style)
    for index, (name, places) in enumerate((points or {}).items(), len(lines)):
        style = _style(index) | {"label": name, "linestyle": "none", "markersize": 8}
        top.plot([x for x, _ in places], [y for _, y in places], **style)
    top.set(ylabel="loss (nats)")
    bottom.set(xlabel="anchor → other")
    if accuracy:
        bottom.set(ylabel="accuracy (%)")
    for axes in {top, bottom}:
        _tidy(axes)
    handles, names = top.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=1, frameon=False, fontsize=9)
    return figure


def depth_figure(panels: Mapping[str, Series], along: str = "block") -> Figure:
    """One panel per measure, below each other; in each a curve per kind of unit over the blocks, or over what `along`
    says."""
    figure, every = pyplot.subplots(
        len(panels), 1, sharex=True, figsize=(6, 0.8 + 2.1 * len(panels)), layout="constrained", squeeze=False
    )
    kinds = list(dict.fromkeys(kind for series in panels.values() for kind in series))
    for axes, (title, series) in zip(every[:, 0], panels.items(), strict=True):
        for kind, values in series.items():
            axes.plot([x for x, _ in values], [y for _, y in values], label=kind, **_style(kinds.index(kind)))
        axes.set(ylabel=title)
        axes.xaxis.get_major_locator().set_params(integer=True)
        _tidy(axes)
    every[-1, 0].set(xlabel=along)
    found = {
        name: handle for axes in every[:, 0] for handle, name in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(found.values(), found.keys(), loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    return figure


def plan_figure(plan: Tensor, title: str) -> Figure:
    """One plan as a heat map: share of each source unit that goes to each anchor unit.

    Source units are sorted by the assignment of largest total share, so that what is matched lies on the diagonal.
    Above 256 units, each point is the mean of several.
    """
    if plan.shape[-2] == plan.shape[-1]:
        plan = plan[assignment(plan)]
    height, width = (min(units, FINEST) for units in plan.shape)
    figure, axes = pyplot.subplots(figsize=(4.2, 3.6), layout="constrained")
    shown = adaptive_avg_pool2d(plan.float()[None], (height, width))[0].cpu().numpy()
    sides = (0, plan.shape[1], plan.shape[0], 0)
    image = axes.imshow(shown, cmap="magma", interpolation="nearest", aspect="auto", extent=sides)
    axes.set(xlabel="anchor unit", ylabel="source unit, sorted", title=title)
    figure.colorbar(image, label="share")
    return figure


def save_path_plot(lines: Mapping[str, LossPath], target: File) -> None:
    """Write a PNG or SVG, by the file's ending."""
    figure = path_figure(lines)
    figure.savefig(target, dpi=160)
    pyplot.close(figure)


def as_svg(figure: Figure, key: str) -> str:
    """A figure as an SVG element for a page, in the colours of the page's text; the figure is closed.

    Args:
        key: what tells its parts from those of other pictures on the page.
    """
    for axes in figure.axes:
        _recolour(axes)
    for legend in figure.legends:
        for text in legend.get_texts():
            text.set_color(INK)
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": key}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    pyplot.close(figure)
    svg = buffer.getvalue()
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    svg = re.sub(r'(\bid="|url\(#|xlink:href="#)', rf"\g<1>{key}-", svg)
    return svg.replace(INK, "currentColor")


def _recolour(axes: Axes) -> None:
    axes.tick_params(colors=INK, which="both")
    for text in (axes.xaxis.label, axes.yaxis.label, axes.title):
        text.set_color(INK)
    for spine in axes.spines.values():
        spine.set_edgecolor(INK)


def _style(index: int) -> dict[str, Any]:
    return {
        "color": COLOURS[index % len(COLOURS)],
        "marker": MARKERS[index % len(MARKERS)],
        "markersize": 4,
    }


def _tidy(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
