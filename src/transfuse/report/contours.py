"""Draw the picture of a landscape with matplotlib."""

from pathlib import Path as File

import matplotlib
import numpy as np

matplotlib.use("Agg")
from matplotlib import pyplot
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from transfuse.evaluation.landscape import Landscape

LEVELS = 14  # of a landscape
STEEP = 2.5  # how much closer its levels lie where a model is good
LABELS = {"loss": "loss (nats)", "accuracy": "accuracy"}


def landscape_figure(found: Landscape, measure: str = "loss") -> Figure:
    """Draw the contours of `loss` or `accuracy` on the plane, and mark the three models; dark is good.

    Levels lie closer together where models are good; of losses, those far over all three models are one. Contours are
    drawn through the points of the grid and the models themselves.
    """
    across, up, values = _scattered(found, measure)
    levels = _levels(values, values[: len(found.models)], measure)
    wide, high = found.x[-1] - found.x[0], found.y[-1] - found.y[0]
    shrink = 5.0 / max(wide, high)
    figure, axes = pyplot.subplots(figsize=(wide * shrink + 1.6, high * shrink + 1.6), layout="constrained")
    norm = PowerNorm(1 / STEEP if measure == "loss" else STEEP, levels[0], levels[-1])
    color_map = "viridis" if measure == "loss" else "viridis_r"
    areas = axes.tricontourf(across, up, values, levels, cmap=color_map, norm=norm, extend="both")
    axes.tricontour(across, up, values, levels, colors="white", linewidths=0.4, alpha=0.6)
    for model, value, marker, name in zip(found.models, values, "osD", "ABC", strict=False):
        shown = f"{value:.3f}" if measure == "loss" else f"{value:.1%}"
        label = f"{name}: {File(model.path).name} ({shown})"
        axes.plot(*model.position, marker, color="white", markeredgecolor="black", markersize=9, label=label)
        outline = [withStroke(linewidth=2.5, foreground="white")]
        place = {"xytext": (8, 6), "textcoords": "offset points"}
        axes.annotate(name, model.position, weight="bold", path_effects=outline, **place)
    axes.set(xlabel="distance along the line from A to B", ylabel="distance from that line", aspect="equal")
    figure.colorbar(areas, label=LABELS[measure], format="%.2f")
    handles, names = axes.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", frameon=False, fontsize=9)
    return figure


def _scattered(found: Landscape, measure: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the positions and the values of the models, then of the grid."""
    models = [(*model.position, getattr(model.metrics, measure)) for model in found.models]
    grid = [
        (x, y, value)
        for y, row in zip(found.y, found.values(measure), strict=True)
        for x, value in zip(found.x, row, strict=True)
    ]
    across, up, values = np.asarray([*models, *grid]).T
    return across, up, np.nan_to_num(values, nan=np.nanmax(values), posinf=1e30)


def _levels(values: np.ndarray, models: np.ndarray, measure: str) -> np.ndarray:
    """Return the levels, from the best point to the worst that is told apart."""
    low, high = float(values.min()), float(values.max())
    if measure == "loss":
        high = min(high, low + 2 * (float(models.max()) - low) + 1.0)
        return low + max(high - low, 1e-6) * np.linspace(0, 1, LEVELS) ** STEEP
    return high - max(high - low, 1e-6) * np.linspace(1, 0, LEVELS) ** STEEP


def save_landscape_plot(found: Landscape, measure: str, target: File) -> None:
    """Write a PNG or SVG, by the file's ending."""
    figure = landscape_figure(found, measure)
    figure.savefig(target, dpi=160, bbox_inches="tight")
    pyplot.close(figure)
