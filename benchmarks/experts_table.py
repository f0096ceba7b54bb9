"""Make the table of models with fewer experts, beside rivals."""

from rows import load, markdown

NAMES = {
    "saliency": "experts with the largest outputs times gates (as in REAP)",
    "frequency": "experts that are chosen most often",
    "random": "random experts",
    "aligned mean": "others merged into those of REAP, aligned (as in REAM)",
    "mean": "the same without alignment",
    "shrink": "**`shrink --effort quick`**",
    "shrink, trained": "**`shrink`**, then trained",
}


def table(name: str) -> str:
    """Return the loss of every way to a model with fewer experts, from the most experts to the fewest."""
    results = load(name)
    large = results["large"]

    def cells(row: dict[str, float]) -> list[str]:
        return [f"{row['code']:.3f}", f"{row['prose']:.3f}", f"{row['loss'] - large['loss']:+.3f}"]

    rows = [["the large model", str(large["experts"]), *cells(large)]]
    for count in sorted(results["results"], key=int, reverse=True):
        for row in sorted(results["results"][count], key=lambda row: [*NAMES].index(row["name"].split(",")[0])):
            rival = row["name"].removesuffix(", trained")
            label = NAMES.get(row["name"]) or f"{NAMES[rival]}, then trained"
            rows.append([label, count, *cells(row)])
    return markdown(["", "experts", "loss on code", "on prose", "more"], rows)
