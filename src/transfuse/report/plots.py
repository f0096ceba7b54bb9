"""Plots with matplotlib: lines between models, values by depth, and transport plans."""

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
from transfuse.evaluation.measures import loss_unit
from transfuse.transport.assignment import assignment

COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#999999")  # Okabe and Ito (2008)
MARKERS = "osD^vPX"
TEXT_COLOR = "#010203"  # a placeholder for the color of the page's text
MAX_CELLS = 256  # of a heat map along each side

Series = Mapping[str, Sequence[tuple[float, float]]]
"""The points (x, y) of each curve, by its name."""


def path_figure(lines: Mapping[str, LossPath], points: Series | None = None, accuracy: bool = True) -> Figure:
    """Plot the loss, and the accuracy below it, along lines between models.

    Args:
        lines: one path per curve, by its name.
        points: further models, each with its position on the line and its loss.
        accuracy: whether to plot the accuracy.
    """
    panels = 2 if accuracy else 1
    figure, all_axes = pyplot.subplots(
        panels, 1, sharex=True, figsize=(6, 1 + 2.7 * panels), layout="constrained", squeeze=False
    )
    top, bottom = all_axes[0, 0], all_axes[-1, 0]
    for index, (name, line) in enumerate(lines.items()):
        style = _curve_style(index) | {"label": f"{name} (barrier {line.barrier:.3f})"}
        top.plot(line.positions, [point.loss for point in line.points], **style)
        if accuracy:
            bottom.plot(line.positions, [100 * point.accuracy for point in line.points], **style)
    for index, (name, markers) in enumerate((points or {}).items(), len(lines)):
        style = _curve_style(index) | {"label": name, "linestyle": "none", "markersize": 8}
        top.plot([x for x, _ in markers], [y for _, y in markers], **style)
    measures = next(iter(lines.values())).measures
    top.set(ylabel=f"loss ({loss_unit(measures).strip()})" if loss_unit(measures) else "loss")
    bottom.set(xlabel="anchor → other")
    if accuracy:
        bottom.set(ylabel="accuracy (%)", ylim=(0, None))
    for axes in {top, bottom}:
        _style_axes(axes)
    handles, names = top.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=1, frameon=False, fontsize=9)
    return figure


def depth_figure(panels: Mapping[str, Series], along: str = "block", from_zero: bool = False) -> Figure:
    """Plot one panel per measure, each with one curve per kind of unit.

    Args:
        panels: the curves of each panel, by its title.
        along: the label of the x-axis.
        from_zero: whether the y-axes include zero, as those of shares should.
    """
    figure, all_axes = pyplot.subplots(
        len(panels), 1, sharex=True, figsize=(6, 0.8 + 2.1 * len(panels)), layout="constrained", squeeze=False
    )
    kinds = list(dict.fromkeys(kind for series in panels.values() for kind in series))
    for axes, (title, series) in zip(all_axes[:, 0], panels.items(), strict=True):
        for kind, values in series.items():
            axes.plot([x for x, _ in values], [y for _, y in values], label=kind, **_curve_style(kinds.index(kind)))
        axes.set(ylabel=title)
        if from_zero:
            low, high = axes.get_ylim()
            smallest = min(y for values in series.values() for _, y in values)
            axes.set_ylim(0.0 if smallest >= 0 else low, max(high, 0.0))
        axes.xaxis.get_major_locator().set_params(integer=True)
        _style_axes(axes)
    all_axes[-1, 0].set(xlabel=along)
    handles = {
        name: handle for axes in all_axes[:, 0] for handle, name in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    return figure


def plan_figure(plan: Tensor, title: str) -> Figure:
    """Plot a plan as a heat map: the share of each source unit that is mapped to each anchor unit.

    Source units are sorted by the assignment of the largest total share, so that matches are on the diagonal. Above 256
    units, each cell is the mean of several.
    """
    if plan.shape[-2] == plan.shape[-1]:
        plan = plan[assignment(plan)]
    height, width = (min(units, MAX_CELLS) for units in plan.shape)
    figure, axes = pyplot.subplots(figsize=(4.2, 3.6), layout="constrained")
    cells = adaptive_avg_pool2d(plan.float()[None], (height, width))[0].cpu().numpy()
    extent = (0, plan.shape[1], plan.shape[0], 0)
    image = axes.imshow(cells, cmap="magma", interpolation="nearest", aspect="auto", extent=extent, vmin=0)
    axes.set(xlabel="anchor unit", ylabel="source unit, sorted", title=title)
    figure.colorbar(image, label="share")
    return figure


def save_path_plot(lines: Mapping[str, LossPath], target: File) -> None:
    """Save a plot of the lines as PNG or SVG, as the file's suffix says."""
    accuracy = all("accuracy" in line.measures for line in lines.values())
    figure = path_figure(lines, accuracy=accuracy)
    figure.savefig(target, dpi=160)
    pyplot.close(figure)


def as_svg(figure: Figure, key: str) -> str:
    """Return a figure as an SVG element in the colors of the page's text, and close the figure.

    Args:
        figure: the figure.
        key: a prefix of the ids in the element, so that they differ from those of other figures on the page.
    """
    for axes in figure.axes:
        _recolor(axes)
    for legend in figure.legends:
        for text in legend.get_texts():
            text.set_color(TEXT_COLOR)
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": key}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    pyplot.close(figure)
    svg = buffer.getvalue()
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    svg = re.sub(r'(\bid="|url\(#|xlink:href="#)', rf"\g<1>{key}-", svg)
    return svg.replace(TEXT_COLOR, "currentColor")


def _recolor(axes: Axes) -> None:
    axes.tick_params(colors=TEXT_COLOR, which="both")
    for text in (axes.xaxis.label, axes.yaxis.label, axes.title):
        text.set_color(TEXT_COLOR)
    for spine in axes.spines.values():
        spine.set_edgecolor(TEXT_COLOR)


def _curve_style(index: int) -> dict[str, Any]:
    return {
        "color": COLORS[index % len(COLORS)],
        "marker": MARKERS[index % len(MARKERS)],
        "markersize": 4,
    }


def _style_axes(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
