"""Make the table of the cost of fusions of base size."""

from common import load
from rows import markdown

NAMES = {
    "floor": "floor",
    "exact, weights": "`--align exact`, by weights",
    "exact, least squares": "`--merge least-squares`",
    "default": "default",
}


def table(name: str = "base-size") -> str:
    """Return processor seconds, their ratio to the floor, those of aligning and merging, and the peak memory."""
    lines = []
    floors: dict[str, float] = {}
    for row in load(name)["rows"]:
        if row["way"] == "floor":
            floors[row["model"]] = row["seconds"]
        stages = row.get("stages", {})
        parts = [f"{stages[name]:.0f}" if name in stages else "" for name in ("aligning", "merging")]
        ratio = f"{row['seconds'] / floors[row['model']]:.1f}"
        peak = f"{row['peak'] / 1e9:.1f} GB"
        lines.append([row["model"], NAMES[row["way"]], f"{row['seconds']:.0f}", ratio, *parts, peak])
    return markdown(["models", "", "processor seconds", "times the floor", "aligning", "merging", "peak memory"], lines)
