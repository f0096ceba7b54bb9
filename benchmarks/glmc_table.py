"""Compare barriers from `barrier.py` and `weights.py` with those that GLMC published for its architectures."""

import json
from typing import Any

from barrier_table import BETTER, line, with_better
from common import RESULTS, spread
from teach_table import with_excess

# By our method: GLMC's name of its counterpart, and the barriers of GLMC's ViT and GPT-2 (Theus et al., 2506.22712).
ROWS = {
    BETTER: ("", "", ""),
    "plain average": ("plain average", "1.69", "2.02"),
    "exact": ("weight matching, O(d)", "0.36", "0.34"),
    "least-squares": ("", "", ""),
    "learned": ("learned, O(d), with labels", "0.00", "0.02"),
    "learned weights": ("", "", ""),
    "anchor, learned (control)": ("", "", ""),
    "ensemble": ("", "", ""),
}
NAMES = {
    "exact": "`--align exact --merge mean`", "least-squares": "`--merge least-squares`",
    "learned": "`--align learned --merge mean`", "learned weights": "`--merge learned`",
}  # fmt: skip
SUBJECTS = {"cifar10-256": "ViT, CIFAR-10", "tinyshakespeare-gpt2-256": "GPT-2, Tiny Shakespeare"}


def table() -> str:
    """Return a table of barriers, or excess over the parents' mean, in nats, as mean and deviation over pairs."""
    found = {name: _pairs(name) for name in SUBJECTS}
    heads = [f"{title}, ours ({len(found[name])} pairs)" for name, title in SUBJECTS.items()]
    lines = [line("", [heads[0], "GLMC", heads[1], "GLMC", "GLMC's method"]), f"|{'---|' * 6}"]
    for row, (called, *published) in ROWS.items():
        ours = [
            spread(pair[row]["barrier"] for pair in pairs) if row in pairs[0] else "" for pairs in found.values()
        ]  # fmt: skip
        cells = [ours[0], published[0], ours[1], published[1], called]
        lines.append(line(NAMES.get(row, row), cells))
    return "\n".join(lines)


def _pairs(name: str) -> list[dict[str, dict[str, Any]]]:
    """Return, for each pair, the rows of `weights.py` and those of `barrier.py` if they exist.

    The row `learned` of `weights.py` is renamed to `learned weights`.
    """
    taught = json.loads((RESULTS / f"weights-{name}.json").read_text())["pairs"]
    lines = RESULTS / f"barrier-{name}.json"
    walked = json.loads(lines.read_text())["pairs"] if lines.exists() else {}
    found = []
    for key, pair in taught.items():
        rows = with_excess(pair)
        rows["learned weights"] = rows.pop("learned")
        found.append(rows | with_better({row["name"]: row for row in walked[key]}) if walked else rows)
    return found
