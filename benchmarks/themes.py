"""Draw each picture of the documentation twice, for light and for dark pages."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from common import HERE
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

PICTURES = HERE.parent / "docs" / "pictures"
INKED = ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color")
STYLE = {"svg.hashsalt": "transfuse", "font.size": 11, "axes.titlesize": 11, "legend.fontsize": 10}


@dataclass(frozen=True)
class Theme:
    """The colors of a page, and of the subjects that all pictures share.

    Attributes:
        ink, faint, paper: lines and text, less important lines, the filling of shapes.
        none, flow, permuted, exact, learned: alignments.
        stream, heads, channels, hidden: spaces.
        one, other: the two parents.
    """

    name: str
    ink: str
    faint: str
    paper: str
    none: str
    flow: str
    permuted: str
    exact: str
    learned: str
    stream: str
    heads: str
    channels: str
    hidden: str
    one: str
    other: str

    def diverging(self) -> LinearSegmentedColormap:
        """Return a color map from minus one to one, with the background color at zero."""
        return LinearSegmentedColormap.from_list("", [self.other, self.paper, self.one])


LIGHT = Theme(
    "light", ink="#24292f", faint="#b6bdc4", paper="#ffffff", none="#7a828a", flow="#d9730d", permuted="#2e8540",
    exact="#0b69d0", learned="#c2255c", stream="#0b69d0", heads="#c2255c", channels="#d9730d", hidden="#2e8540",
    one="#0b69d0", other="#d9730d",
)  # fmt: skip
DARK = Theme(
    "dark", ink="#dfe3ea", faint="#596070", paper="#20232e", none="#9aa3b2", flow="#ff9f4a", permuted="#63c584",
    exact="#5aa9ff", learned="#ff7aa8", stream="#5aa9ff", heads="#ff7aa8", channels="#ff9f4a", hidden="#63c584",
    one="#5aa9ff", other="#ff9f4a",
)  # fmt: skip


def draw(name: str, picture: Callable[[Theme], Figure], folder: Path = PICTURES) -> None:
    """Write `NAME-light.svg` and `NAME-dark.svg`, with the same bytes in each run."""
    folder.mkdir(exist_ok=True)
    for theme in (LIGHT, DARK):
        colors = dict.fromkeys(INKED, theme.ink)
        with pyplot.rc_context(STYLE | colors | {"axes.facecolor": "none", "figure.facecolor": "none"}):
            figure = picture(theme)
            figure.savefig(folder / f"{name}-{theme.name}.svg", transparent=True, metadata={"Date": None})
            pyplot.close(figure)


def bare(axes: Axes, width: float, height: float) -> None:
    """Hide the axes and set their limits, with equal scales."""
    axes.set(xlim=(0, width), ylim=(0, height), aspect="equal")
    axes.axis("off")
