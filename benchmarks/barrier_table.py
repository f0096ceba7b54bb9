"""Make the tables of `barrier.py`: mean and standard deviation over pairs. `tables.py` inserts them into pages."""

import json
from dataclasses import dataclass
from math import exp
from statistics import mean
from typing import Any

from common import RESULTS, spread

IMAGES = {
    "fashion-mnist-skewed": "Fashion-MNIST, each parent half the classes, ViT",
    "fashion-mnist-skewed-confidence": "the same, `--teacher-weighting confidence`", "cifar10": "CIFAR-10, ViT",
    "fashion-mnist": "Fashion-MNIST, ViT",
}  # fmt: skip
TEXTS = {
    "books-llama": "two books, each parent mostly one, Llama",
    "books-llama-confidence": "the same, `--teacher-weighting confidence`",
    "tinyshakespeare-llama": "Tiny Shakespeare, Llama", "tinyshakespeare-gpt2": "Tiny Shakespeare, GPT-2",
    "warandpeace": "War and Peace, BERT",
}  # fmt: skip
ROWS = (
    "plain average", "uniform plan (control)", "flow", "permutations only", "exact", "exact, least squares",
    "learned", "learned, least squares", "ensemble",
)  # fmt: skip
BETTER = "better parent"
DEFAULT = "exact, least squares"
CHOICES = {
    "plain average": ("`--align none`", "nothing"),
    "exact": ("no `--data`", "nothing"),
    DEFAULT: ("`--data D --merge least-squares`", "samples"),
    "learned": ("`--data D --align learned --merge mean`", "samples, minutes"),
    "learned, least squares": ("`--data D --align learned --merge least-squares`", "samples, minutes"),
    "ensemble": ("ensemble (no fusion)", "both models at run time"),
}


@dataclass(frozen=True)
class Column:
    """The results of one subject: for every pair, the rows by name."""

    name: str
    pairs: list[dict[str, dict[str, Any]]]

    @property
    def title(self) -> str:
        """The name of the subject and the number of pairs."""
        return f"{(IMAGES | TEXTS)[self.name]} ({len(self.pairs)} pair{'s' * (len(self.pairs) > 1)})"

    def barriers(self, row: str) -> str:
        """Return the barrier in nats."""
        return spread(pair[row]["barrier"] for pair in self.pairs)

    def qualities(self, *rows: str) -> str:
        """Return the accuracy in percent, or the perplexity of a language model, as the mean of several rows."""
        return spread((mean(self._quality(pair[row]["metrics"]) for row in rows) for pair in self.pairs), 1)

    def _quality(self, metrics: dict[str, Any]) -> float:
        return 100 * metrics["accuracy"] if self.name in IMAGES else exp(metrics["loss"])


def columns() -> list[Column]:
    """Return a column for every subject that was measured."""
    found = []
    for name in IMAGES | TEXTS:
        file = RESULTS / f"barrier-{name}.json"
        if file.exists():
            pairs = json.loads(file.read_text())["pairs"]
            found.append(Column(name, [with_better({row["name"]: row for row in rows}) for rows in pairs.values()]))
    return found


def with_better(rows: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Add a row for the parent with the lower loss."""
    parents = [rows[name] for name in ("anchor", "other parent")]
    losses = [each["metrics"]["loss"] for each in parents]
    return rows | {BETTER: parents[losses.index(min(losses))] | {"barrier": min(losses) - mean(losses)}}


def tables(found: list[Column]) -> str:
    """Return a table of barriers, and one of accuracies and perplexities."""
    names = [each.title for each in found]
    heads = [line(what, names) for what in ("loss barrier (nats)", "accuracy (%), or perplexity for language models")]
    rule = f"|{'---|' * (len(names) + 1)}"
    barriers, qualities = [heads[0], rule], [heads[1], rule]
    qualities.append(line("parents, mean", [each.qualities("anchor", "other parent") for each in found]))
    barriers.append(line("better parent", [each.barriers(BETTER) for each in found]))
    qualities.append(line("better parent", [each.qualities(BETTER) for each in found]))
    for row in ROWS:
        name = f"**{row}**" if row == DEFAULT else row
        barriers.append(line(name, [each.barriers(row) for each in found]))
        qualities.append(line(name, [each.qualities(row) for each in found]))
    return "\n".join([*barriers, "", *qualities])


def decisions(found: list[Column]) -> str:
    """Return a table of what each option needs and gives, for two image models and one language model."""
    shown = [each for each in found if each.name in ("fashion-mnist-skewed", "cifar10", "tinyshakespeare-llama")]
    kinds = ("accuracy (%)" if each.name in IMAGES else "perplexity" for each in shown)
    heads = [f"{(IMAGES | TEXTS)[each.name]}: {kind}" for each, kind in zip(shown, kinds, strict=True)]
    lines = [line("option", ["needs (unlabeled)", *heads]), f"|{'---|' * 5}"]
    lines.append(line("parents, mean", ["", *(each.qualities("anchor", "other parent") for each in shown)]))
    lines.append(line("better parent", ["", *(each.qualities(BETTER) for each in shown)]))
    for row, (option, needed) in CHOICES.items():
        lines.append(line(option, [needed, *(each.qualities(row) for each in shown)]))
    return "\n".join(lines)


def line(name: str, cells: list[str]) -> str:
    """Return one row of a table."""
    return f"| {name} | {' | '.join(cells)} |"
