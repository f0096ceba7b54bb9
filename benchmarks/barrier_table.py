"""The tables of `barrier.py`, mean and standard deviation over pairs; `tables.py` puts them into pages."""

import json
from dataclasses import dataclass
from math import exp
from statistics import mean
from typing import Any

from common import RESULTS, spread

IMAGES = {"cifar10": "CIFAR-10, ViT", "fashion-mnist": "Fashion-MNIST, ViT"}
TEXTS = {
    "tinyshakespeare-llama": "Tiny Shakespeare, Llama", "tinyshakespeare-gpt2": "Tiny Shakespeare, GPT-2",
    "warandpeace": "War and Peace, BERT",
}  # fmt: skip
ROWS = (
    "plain average", "uniform plan (control)", "flow", "permutations only", "exact", "exact, least squares",
    "exact, least squares, taught", "learned", "learned, least squares", "ensemble",
)  # fmt: skip
DEFAULT = "exact, least squares"
CHOICES = {
    "plain average": ("`--align none`", "nothing"),
    "exact": ("no `--data`", "nothing"),
    DEFAULT: ("**`--data D`**, the default", "samples"),
    "learned": ("`--data D --align learned --merge mean`", "samples, minutes"),
    "learned, least squares": ("`--data D --align learned`", "samples, minutes"),
    "exact, least squares, taught": ("the default, then `finetune` with both as teachers", "many samples, minutes"),
    "ensemble": ("no fusion: the ensemble", "both models, each time"),
}


@dataclass(frozen=True)
class Column:
    """One subject's rows by name, pair by pair."""

    name: str
    pairs: list[dict[str, dict[str, Any]]]

    def barriers(self, row: str) -> str:
        """In nats."""
        return spread(pair[row]["barrier"] for pair in self.pairs)

    def qualities(self, *rows: str) -> str:
        """Accuracy in percent, or the perplexity of a language model; the mean of several rows."""
        return spread((mean(self._quality(pair[row]["metrics"]) for row in rows) for pair in self.pairs), 1)

    def _quality(self, metrics: dict[str, Any]) -> float:
        return 100 * metrics["accuracy"] if self.name in IMAGES else exp(metrics["loss"])


def columns() -> list[Column]:
    """Of all subjects that were measured."""
    found = []
    for name in IMAGES | TEXTS:
        file = RESULTS / f"barrier-{name}.json"
        if file.exists():
            pairs = json.loads(file.read_text())["pairs"]
            found.append(Column(name, [{row["name"]: row for row in rows} for rows in pairs.values()]))
    return found


def tables(found: list[Column]) -> str:
    """Barriers, then what users look at."""
    names = [f"{(IMAGES | TEXTS)[each.name]} ({len(each.pairs)} pair{'s' * (len(each.pairs) > 1)})" for each in found]
    heads = [_line(what, names) for what in ("loss barrier (nats)", "accuracy (%), perplexity of language models")]
    rule = f"|{'---|' * (len(names) + 1)}"
    barriers, qualities = [heads[0], rule], [heads[1], rule]
    qualities.append(_line("parents, mean", [each.qualities("anchor", "other parent") for each in found]))
    for row in ROWS:
        name = f"**{row}** (default)" if row == DEFAULT else row
        barriers.append(_line(name, [each.barriers(row) for each in found]))
        qualities.append(_line(name, [each.qualities(row) for each in found]))
    return "\n".join([*barriers, "", *qualities])


def decisions(found: list[Column]) -> str:
    """What each choice asks for and gives, on one kind of image model and one of language model."""
    shown = [each for each in found if each.name in ("cifar10", "tinyshakespeare-llama")]
    names = [(IMAGES | TEXTS)[each.name] for each in shown]
    heads = [f"{name}: {what}" for name, what in zip(names, ("accuracy (%)", "perplexity"), strict=True)]
    lines = [_line("you say", ["it needs, unlabelled", *heads]), f"|{'---|' * 4}"]
    lines.append(_line("the parents, on average", ["", *(each.qualities("anchor", "other parent") for each in shown)]))
    for row, (said, needed) in CHOICES.items():
        lines.append(_line(said, [needed, *(each.qualities(row) for each in shown)]))
    return "\n".join(lines)


def _line(name: str, cells: list[str]) -> str:
    return f"| {name} | {' | '.join(cells)} |"
