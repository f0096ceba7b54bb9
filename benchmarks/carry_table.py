"""Make the tables of fine-tunes that were carried to another base, from their files under `results/`."""

from math import exp
from statistics import mean
from typing import Any

from common import load
from rows import markdown, percent, spread

from transfuse.base.counted import counted

GIVEN = ("base", "new base", "tuned", "tuned directly, with labels")
CHANCE = 1 / 4  # accuracy of guessing by how many quarters an image is turned
HEADS = {
    "cifar10": ["turned images (%)", "share of the gain (%)", "upright images (%)", "loss there", "cost there (%)"],
    "turns": ["right turn (%)", "share of the gain (%)"],
    "books": [
        "perplexity, Shakespeare",
        "share of the gain (%)",
        "perplexity, Tolstoy",
        "loss there",
        "cost there (%)",
    ],
}
HEADS["wider"] = HEADS["cifar10"]
Rows = dict[str, dict[str, Any]]


def table(subject: str = "cifar10") -> str:
    """Return the quality on the task and on the old task over the pairs.

    The share of the gain is relative to what the tuned model gained over its base: in accuracy, or in nats for books.
    The cost is the rise of the loss on the old task, relative to that of the new base tuned directly.
    """
    all_pairs: list[Rows] = list(load(f"carry-{subject}")["pairs"].values())
    is_text = subject == "books"

    def shown(part: str, name: str, pairs: list[Rows]) -> str:
        if is_text:
            return spread([exp(rows[name][part]["loss"]) for rows in pairs], 1)
        return percent([rows[name][part]["accuracy"] for rows in pairs])

    def share(rows: Rows, name: str) -> float:
        if subject == "turns":
            return (rows[name]["task"]["accuracy"] - CHANCE) / (rows["tuned"]["task"]["accuracy"] - CHANCE)
        measure, sign = ("loss", -1) if is_text else ("accuracy", 1)
        task = {each: sign * rows[each]["task"][measure] for each in ("base", "tuned", "new base", name)}
        return (task[name] - task["new base"]) / (task["tuned"] - task["base"])

    def cost(rows: Rows, name: str) -> float:
        old = {each: rows[each]["old"]["loss"] for each in ("new base", GIVEN[3], name)}
        return (old[name] - old["new base"]) / (old[GIVEN[3]] - old["new base"])

    lines = []
    for name in all_pairs[0]:
        pairs = [rows for rows in all_pairs if name in rows]
        line = [name, shown("task", name, pairs)]
        line.append("" if name in GIVEN[:3] else percent([share(rows, name) for rows in pairs]))
        if subject != "turns":
            line += [shown("old", name, pairs), spread([rows[name]["old"]["loss"] for rows in pairs])]
            line.append("" if name in GIVEN[:3] else percent([cost(rows, name) for rows in pairs]))
        line.append("" if name in GIVEN else f"{mean(rows[name]['seconds'] for rows in pairs):.0f}")
        line[0] += f" ({counted(len(pairs), 'pair')})" if len(pairs) < len(all_pairs) else ""
        lines.append(line)
    return markdown(["model", *HEADS[subject], "seconds"], lines)
