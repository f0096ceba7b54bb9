"""Make the table of merge methods for fine-tunes of one base, from its file under `results/`."""

from common import load
from rows import markdown, percent, spread

PARENTS = ("first half", "second half")
CONTROLS = ("base", "ensemble")  # shown after the parents


def table() -> str:
    """Return accuracy and loss of every method, over the pairs."""
    pairs = [pair["rows"] for pair in load("one-base-cifar10")["pairs"].values()]

    def row(shown: str, names: tuple[str, ...]) -> list[str]:
        accuracies, losses = (
            [sum(rows[name][measure] for name in names) / len(names) for rows in pairs]
            for measure in ("accuracy", "loss")
        )
        return [shown, percent(accuracies), spread(losses)]

    methods = [name for name in pairs[0] if name not in (*PARENTS, *CONTROLS)]
    rows = [row("parents, mean", PARENTS), *(row(name, (name,)) for name in (*CONTROLS, *methods))]
    return markdown(["model", "accuracy (%)", "loss"], rows)
