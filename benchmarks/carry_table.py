"""Make the table of fine-tunes that were carried to another base, from its file under `results/`."""

from rows import load, markdown, percent, spread

GIVEN = ("base", "new base", "tuned", "tuned directly, with labels")


def table() -> str:
    """Return accuracy on the task, the share of the gain, accuracy and loss on the old task, over the pairs."""
    pairs = list(load("carry-cifar10")["pairs"].values())

    def share(rows: dict[str, dict[str, dict[str, float]]], name: str) -> float:
        task = {each: rows[each]["task"]["accuracy"] for each in ("base", "tuned", "new base", name)}
        return (task[name] - task["new base"]) / (task["tuned"] - task["base"])

    lines = []
    for name in pairs[0]:
        line = [name, percent([rows[name]["task"]["accuracy"] for rows in pairs])]
        shares = [share(rows, name) for rows in pairs]
        line.append("" if name in GIVEN[:3] else percent(shares))
        line += [percent([rows[name]["old"]["accuracy"] for rows in pairs])]
        line += [spread([rows[name]["old"]["loss"] for rows in pairs])]
        line += [spread([rows[name]["seconds"] for rows in pairs], 0) if name not in GIVEN else ""]
        lines.append(line)
    heads = ["model", "turned images (%)", "share of the gain (%)", "upright images (%)", "loss there", "seconds"]
    return markdown(heads, lines)
