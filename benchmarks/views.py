"""Two views of Fashion-MNIST: every image at the center of a larger canvas, or at a random position."""

from functools import cache
from typing import Any, Literal

import torch
from common import split
from datasets import Dataset, concatenate_datasets
from PIL import Image

View = Literal["centred", "moved"]
CANVAS = 40
MARGIN = (CANVAS - 28) // 2


@cache
def viewed(view: View, name: str) -> Dataset:
    """Return a split with every image on the canvas. Random positions depend only on the index of the image."""
    rows = split("fashion-mnist", name)
    generator = torch.Generator().manual_seed(len(rows))
    places = torch.randint(2 * MARGIN + 1, (len(rows), 2), generator=generator).tolist()

    def place(row: dict[str, Any], index: int) -> dict[str, Any]:
        board = Image.new("L", (CANVAS, CANVAS))
        board.paste(row["image"], tuple(places[index]) if view == "moved" else (MARGIN, MARGIN))
        return {"image": board}

    return rows.map(place, with_indices=True, features=rows.features, keep_in_memory=True)


def both(name: str) -> Dataset:
    """Return a split in both views."""
    return concatenate_datasets([viewed("centred", name), viewed("moved", name)])
