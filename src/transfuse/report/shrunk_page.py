"""The page of a model that was made smaller."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from transfuse.checkpoint.cards.shrunk import kept_experts
from transfuse.report.facts import Facts
from transfuse.report.page import render

SIZE_WORDS = {
    "hidden_size": "hidden size",
    "layers": "layers (blocks)",
    "intermediate_size": "hidden units",
    "heads": "attention heads",
    "kv_heads": "key-value heads",
    "head_size": "channels per head",
    "experts": "experts",
}


@dataclass(frozen=True)
class Size:
    """A size of the large and of the small model."""

    name: str
    before: int
    after: int

    @property
    def changed(self) -> bool:
        """Whether the size differs."""
        return self.before != self.after

    @property
    def share(self) -> float:
        """The share that stayed."""
        return self.after / self.before


@dataclass(frozen=True)
class Tried:
    """Sizes that were tried, and how much they change the predictions.

    Attributes:
        sizes: those in which the tries differ.
        damage: the mean divergence of the predictions.
        taken: whether the small model has these sizes.
    """

    sizes: Sequence[int]
    damage: float
    taken: bool


def shrunk_page(facts: Facts) -> str:
    """Return the page of a model that was made smaller."""
    record = facts.record
    columns, tried = _tried(record)
    removed = len(record["blocks"]) < record["sizes"]["large"].get("layers", 0)
    return render(
        "shrunk.html",
        facts,
        sizes=_sizes(record),
        kept_blocks=record["blocks"] if removed else [],
        parameters={"fusion": record["parameters"]["small"], "parent": record["parameters"]["large"]},
        tried=tried,
        tried_columns=columns,
        experts=kept_experts(record),
    )


def _sizes(record: Mapping[str, Any]) -> list[Size]:
    large, small = (record["sizes"][name] for name in ("large", "small"))
    parameters = record["parameters"]
    sizes = [Size(SIZE_WORDS[role], size, small[role]) for role, size in large.items()]
    return [Size("parameters", parameters["large"], parameters["small"]), *sizes]


def _tried(record: Mapping[str, Any]) -> tuple[list[str], list[Tried]]:
    """Return the names of the sizes in which the tries differ, and the tries."""
    tries = record.get("tried_sizes", [])
    roles = [role for role in SIZE_WORDS if len({sizes.get(role) for sizes in tries}) > 1]
    taken = record["sizes"]["small"]
    rows = [
        Tried(
            [sizes[role] for role in roles],
            sizes["divergence"],
            all(sizes[role] == size for role, size in taken.items()),
        )
        for sizes in tries
    ]
    return [SIZE_WORDS[role] for role in roles], rows
