"""Make the tables of models that were made smaller, beside their controls."""

from collections.abc import Mapping
from math import exp

from common import load
from rows import markdown

NAMES = {
    "shrink, fitted": "**`shrink --effort quick`**",
    "shrink, trained": "**`shrink`**, then trained",
    "norms, fitted": "units with the largest weights, layers fitted",
    "norms, trained": "the same, then trained",
    "random units, fitted": "random units, layers fitted",
    "random units, trained": "the same, then trained",
    "random start, trained": "random start, trained on the large model",
    "labels alone": "random start, trained on labels",
    "labels alone, long": "the same, trained for long",
}


def points(name: str, way: str) -> list[tuple[float, float]]:
    """Return the share of the parameters, and how far the loss is above that of the large model, for one way."""
    results = load(name)["results"]
    large = results.pop("large")
    return [
        (row["parameters"] / large["parameters"], row["loss"] - large["loss"])
        for result in results.values()
        for row in result["rows"]
        if row["name"] == way
    ]


def table(name: str, perplexity: bool = False) -> str:
    """Return loss, and accuracy or perplexity, of every way to a smaller model."""
    results = load(name)["results"]
    large = results.pop("large")

    def cells(row: dict[str, float]) -> list[str]:
        quality = f"{exp(row['loss']):.1f}" if perplexity else f"{100 * row['accuracy']:.1f} %"
        same = [f"{row['same_tokens']:.1f}"] if "same_tokens" in row else []
        return [f"{row['loss']:.3f}", f"{row['loss'] - large['loss']:+.3f}", quality, *same]

    rows = [["the large model", "100 %", *cells(large)]]
    for result in results.values():
        share = f"{100 * result['rows'][0]['parameters'] / large['parameters']:.0f} %"
        rows += [[NAMES[row["name"]], share, *cells(row)] for row in result["rows"]]
    same = ["same tokens"] if "same_tokens" in large else []
    return markdown(["", "parameters", "loss", "more", "perplexity" if perplexity else "accuracy", *same], rows)


def embeddings(name: str) -> str:
    """Return how every way to a smaller model of embeddings compares with the large model."""
    results = load(name)["results"]
    large = results.pop("large")
    rows = [["the large model", "100 %", *_embedding_cells(large)]]
    for result in results.values():
        for row in result["rows"]:
            share = f"{100 * row['parameters'] / large['parameters']:.0f} %"
            rows.append([NAMES[row["name"]], share, *_embedding_cells(row)])
    return markdown(["", "parameters", "cosine", "ranks of similarities", "accuracy of a classifier"], rows)


def _embedding_cells(row: dict[str, float]) -> list[str]:
    return [f"{row['cosine']:.3f}", f"{row['ranks']:.3f}", f"{100 * row['accuracy']:.1f} %"]


def increases(columns: Mapping[str, str]) -> str:
    """Return how far the loss of every way to a smaller model is above that of the large model, for several models.

    Args:
        columns: the title of the column of each model, by the name of its results. The sizes are those of the first.
    """
    found = [load(name)["results"] for name in columns]
    larges = [results.pop("large")["loss"] for results in found]
    rows = [["loss of the large model", "100 %", *(f"{loss:.3f}" for loss in larges)]]
    for ratio in found[0]:
        losses = [
            {row["name"]: f"{row['loss'] - large:+.3f}" for row in results.get(ratio, {"rows": []})["rows"]}
            for results, large in zip(found, larges, strict=True)
        ]
        ways = [way for way in NAMES if any(way in some for some in losses)]
        rows += [[NAMES[way], f"{100 * float(ratio):.0f} %", *(some.get(way, "") for some in losses)] for way in ways]
    return markdown(["increase of the loss", "parameters", *columns.values()], rows)
