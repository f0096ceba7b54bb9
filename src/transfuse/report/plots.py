"""Pictures: paths and transport plans, by matplotlib."""

import io
from collections.abc import Mapping
from pathlib import Path as File

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot
from matplotlib.figure import Figure
from torch import Tensor

from transfuse.evaluate import Path
from transfuse.transport.assignment import assignment


def path_figure(lines: Mapping[str, Path]) -> Figure:
    """Loss and accuracy along the lines, one curve per alignment."""
    figure, (top, bottom) = pyplot.subplots(2, 1, sharex=True, figsize=(6, 6.4), layout="constrained")
    for index, (name, line) in enumerate(lines.items()):
        style = {"label": f"{name} (barrier {line.barrier:.3f})", "marker": "o", "markersize": 3, "color": f"C{index}"}
        top.plot(line.positions, [point.loss for point in line.points], **style)
        bottom.plot(line.positions, [100 * point.accuracy for point in line.points], **style)
    top.set(ylabel="loss (nats)")
    bottom.set(xlabel="anchor → other", ylabel="accuracy (%)")
    for axes in (top, bottom):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
    handles, names = top.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    return figure


def plan_figure(plan: Tensor, title: str) -> Figure:
    """One plan as a heat map: share of each source unit that goes to each anchor unit.

    Source units are sorted by the assignment of largest total share, so that what is matched lies on the diagonal.
    """
    if plan.shape[-2] == plan.shape[-1]:
        plan = plan[assignment(plan)]
    figure, axes = pyplot.subplots(figsize=(4.2, 3.6), layout="constrained")
    image = axes.imshow(plan.cpu().numpy(), cmap="magma", interpolation="nearest", aspect="auto")
    axes.set(xlabel="anchor unit", ylabel="source unit, sorted", title=title)
    figure.colorbar(image, label="share")
    return figure


def save_path_plot(lines: Mapping[str, Path], target: File) -> None:
    """Write a PNG or SVG, by the file's ending."""
    figure = path_figure(lines)
    figure.savefig(target, dpi=160)
    pyplot.close(figure)


def as_png(figure: Figure) -> bytes:
    """A figure's PNG; the figure is closed."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=160)
    pyplot.close(figure)
    return buffer.getvalue()
