"""Draw the plots of the documentation, `docs/pictures`, from the measurements in `results/`.

python benchmarks/pictures.py
"""

from collections import defaultdict
from functools import partial
from statistics import mean

import numpy as np
from common import load
from grow_table import points
from matplotlib import pyplot
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from shrink_table import points as shrink_points
from themes import Theme, draw

LINES = {
    "plain average": "none", "flow": "flow", "permutations only": "permuted", "exact": "exact", "learned": "learned",
}  # fmt: skip
KINDS = {
    "attention.q_proj": "queries", "attention.k_proj": "keys", "attention.v_proj": "values",
    "attention.o_proj": "attention output", "mlp.fc1": "hidden units", "mlp.fc2": "MLP output",
}  # fmt: skip
FITTED = "exact, least squares"


def path(theme: Theme) -> Figure:
    """Plot the losses between two parents, by alignment."""
    figure, axes = pyplot.subplots(figsize=(7, 4), layout="constrained")
    for number, rows in enumerate(load("barrier-cifar10")["pairs"].values()):
        by_name = {each["name"]: each for each in rows}
        for name, color in LINES.items():
            line = by_name[name]["line"]
            losses = [point["loss"] for point in line["points"]]
            axes.plot(
                line["positions"], losses, color=getattr(theme, color), label=None if number else name, marker="o",
                markersize=3,
            )  # fmt: skip
        axes.plot(
            [0.5], [by_name[FITTED]["metrics"]["loss"]], "s", color=theme.exact, markeredgecolor=theme.ink,
            markersize=8, label=None if number else FITTED,
        )  # fmt: skip
    axes.set(ylabel="test loss (nats)", xticks=[0, 0.5, 1], xticklabels=["parent A", "midpoint", "parent B"])
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color=theme.faint, alpha=0.4)
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    return figure


def likeness(theme: Theme, place: str) -> Figure:
    """Plot the correlations between units, for three alignments."""
    found = load("likeness-cifar10")
    ways = found["matrices"][place]
    figure, panels = pyplot.subplots(1, len(ways), figsize=(7.2, 2.9), layout="constrained")
    for axes, (method, rows) in zip(panels, ways.items(), strict=True):
        matrix = np.array([row.split() for row in rows], dtype=float) / 100
        shown = axes.imshow(matrix, cmap=theme.diverging(), vmin=-1, vmax=1, interpolation="none")
        diagonal = round(found["diagonals"][place][method][found["block"]], 2) + 0.0  # avoids a negative zero
        axes.set(title=f"{method}\ndiagonal: {diagonal:.2f}", xticks=[], yticks=[])
        axes.set_xlabel("units of B" if method == "as trained" else "units of B, aligned")
        axes.spines[:].set_color(theme.faint)
        for edge in range(1, found["heads"]) if place == "heads" else ():
            middle = edge * len(rows) / found["heads"] - 0.5
            axes.axhline(middle, color=theme.ink, lw=0.8)
            axes.axvline(middle, color=theme.ink, lw=0.8)
    panels[0].set_ylabel("units of A")
    figure.colorbar(shown, ax=panels, shrink=0.75, label="correlation", ticks=[-1, 0, 1]).outline.set_visible(False)
    return figure


def depth(theme: Theme) -> Figure:
    """Plot the mean correlation of matched units, block by block."""
    found = load("likeness-cifar10")["diagonals"]
    names = {"stream": "residual stream", "heads": "channels of the values", "hidden": "hidden units"}
    figure, panels = pyplot.subplots(1, len(names), figsize=(7.2, 2.7), layout="constrained", sharey=True)
    colors = (theme.none, theme.permuted, theme.exact)
    for axes, (place, title) in zip(panels, names.items(), strict=True):
        for (method, means), color in zip(found[place].items(), colors, strict=True):
            blocks = range(1, len(means) + 1)
            axes.plot(blocks, means, color=color, marker="o", markersize=4, label=method if axes is panels[0] else None)
        axes.set(title=title, xlabel="block", xticks=blocks, ylim=(-0.08, 1))
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color=theme.faint, alpha=0.4)
    panels[0].set_ylabel("mean correlation")
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    return figure


def fitted(theme: Theme) -> Figure:
    """Plot how much of each layer's error fitting removed, and the parents that the hidden units came from."""
    gains, units = defaultdict(list), defaultdict(list)
    for rows in load("barrier-cifar10")["pairs"].values():
        fits = next(each for each in rows if each["name"] == FITTED)["least_squares"]
        for name, fit in fits.items():
            _, _, place = name.partition("layers.")
            block, _, kind = place.partition(".")
            if kind in KINDS:
                gains[kind, int(block)].append(fit["gain"])
                if kind == "mlp.fc1":
                    units[int(block)].append([count / sum(fit["units"]) for count in fit["units"]])
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(7.2, 3.2), layout="constrained", width_ratios=(3, 2))
    blocks, colors = sorted(units), (theme.channels, theme.learned, theme.heads, theme.none, theme.hidden, theme.exact)
    for (kind, name), color, dash in zip(KINDS.items(), colors, ("-", "--", ":", "-", "-", "-"), strict=True):
        heights = [100 * mean(gains[kind, block]) for block in blocks]
        left.plot([block + 1 for block in blocks], heights, dash, color=color, marker="o", markersize=4, label=name)
    left.set(ylabel="error removed (%)", ylim=(0, 100))
    bottom = np.zeros(len(blocks))
    for index, (name, color) in enumerate((("means", theme.none), ("from A", theme.one), ("from B", theme.other))):
        heights = np.array([100 * mean(share[index] for share in units[block]) for block in blocks])
        right.bar([block + 1 for block in blocks], heights, bottom=bottom, color=color, label=name, width=0.75)
        bottom += heights
    right.set(ylabel="hidden units selected (%)")
    for axes in (left, right):
        axes.set(xlabel="block", xticks=[block + 1 for block in blocks])
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.22), ncols=2 + (axes is right), frameon=False,
                    handlelength=1.2, columnspacing=1, fontsize=9)  # fmt: skip
    return figure


def grown(theme: Theme) -> Figure:
    """Plot the loss against the number of parameters, of fusions that grow and of their controls."""
    subjects = {
        "digits": "digits", "antibody": "antibodies, 60 steps", "antibody-long": "antibodies, 600 steps",
        "books": "two books",
    }  # fmt: skip
    figure, panels = pyplot.subplots(1, len(subjects), figsize=(2.8 * len(subjects), 3.2), layout="constrained")
    lines = {
        "fused": ("fusion", theme.exact, "o-"), "parent 1, widened": ("parent 1 with copies", theme.one, "^:"),
        "parent 2, widened": ("parent 2 with copies", theme.other, "v:"),
        "ensemble, auto": ("ensemble", theme.ink, "s"),
    }  # fmt: skip
    for axes, (subject, title) in zip(panels, subjects.items(), strict=True):
        for name, (label, color, style) in lines.items():
            if measured := points(subject, name):
                axes.plot(*zip(*measured, strict=True), style, color=color, label=label, markersize=5)
        (end,) = points(subject, "ensemble, auto")
        axes.axhline(end[1], color=theme.faint, lw=1, zorder=0)
        axes.set(title=title, xlabel="parameters")
        if subject != "books":  # whose losses are all far from zero
            axes.set_ylim(0, None)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("mean test loss (nats)")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    return figure


def smaller(theme: Theme) -> Figure:
    """Plot the increase of the loss against the number of parameters, of models that were made smaller."""
    subjects = {
        "shrink-vit": "ViT, CIFAR-10",
        "shrink-gpt2": "GPT-2, a novel",
        "shrink-antibody": "RoBERTa, antibodies",
    }
    lines = {
        "shrink, trained": ("shrink", theme.exact, "o-"), "shrink, fitted": ("shrink, not trained", theme.exact, "o:"),
        "norms, trained": ("largest weights, trained", theme.flow, "^-"),
        "random units, trained": ("random units, trained", theme.none, "v-"),
        "labels alone, long": ("trained for long from a random start", theme.ink, "s"),
    }  # fmt: skip
    figure, panels = pyplot.subplots(1, len(subjects), figsize=(3.6 * len(subjects), 3.6), layout="constrained")
    for axes, (subject, title) in zip(panels, subjects.items(), strict=True):
        for way, (label, color, style) in lines.items():
            measured = shrink_points(subject, way)
            places = measured if style == "s" else [(1.0, 0.0), *measured]
            shares, increases = zip(*places, strict=True) if places else ((), ())
            axes.plot(shares, increases, style, color=color, label=label, markersize=4)
        axes.set(title=title, xlabel="parameters", xticks=[0.25, 0.5, 0.75, 1], ylim=(0, None))
        axes.xaxis.set_major_formatter(PercentFormatter(1))
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("increase of the loss (nats)")
    figure.legend(*panels[-1].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
    return figure


def main() -> None:
    draw("path", path)
    for place in ("stream", "heads", "hidden"):
        draw(f"likeness-{place}", partial(likeness, place=place))
    draw("depth", depth)
    draw("fitted", fitted)
    draw("grown", grown)
    draw("smaller", smaller)


if __name__ == "__main__":
    main()
