"""Make the table of models with fewer experts, beside rivals."""

from common import load
from rows import markdown

NAMES = {
    "saliency": "experts with the largest outputs times gates (as in REAP)",
    "frequency": "experts that are chosen most often",
    "random": "random experts",
    "aligned mean": "others merged into those of REAP, aligned (as in REAM)",
    "mean": "the same without alignment",
    "shrink": "**`shrink --effort quick`**",
    "shrink, trained": "**`shrink`**, then trained",
}


def table(*names: str) -> str:
    """Return the increase of the loss by every way to fewer experts, with a column for each model."""
    found = [load(name) for name in names]
    rows = [
        [
            "loss of the large model",
            str(found[0]["large"]["experts"]),
            *(f"{each['large']['loss']:.3f}" for each in found),
        ]
    ]
    for count in sorted(found[0]["results"], key=int, reverse=True):
        losses = [
            {row["name"]: row["loss"] - each["large"]["loss"] for row in each["results"][count]} for each in found
        ]
        ways = sorted(
            {way for some in losses for way in some}, key=lambda way: ([*NAMES].index(way.split(",")[0]), way)
        )
        for way in ways:
            label = NAMES.get(way) or f"{NAMES[way.removesuffix(', trained')]}, then trained"
            rows.append([label, count, *(f"{some[way]:+.3f}" if way in some else "" for some in losses)])
    return markdown(["", "experts", *(f"model {number}" for number, _ in enumerate(names, 1))], rows)
