"""The stages of a backbone: names of its embeddings and its blocks, of which the configuration selects outputs."""

from collections.abc import Sequence
from typing import Any

from transformers import PreTrainedConfig


def follow_blocks(config: PreTrainedConfig, blocks: Sequence[int]) -> None:
    """Change the stages of a configuration to those of other blocks. Selected stages stay selected if their blocks do.

    The last stage is selected if it was before, or if no other one is left.

    Args:
        blocks: for each new block, the number of the block whose place it takes.
    """
    names = getattr(config, "stage_names", None)
    if names is None or getattr(config, "out_indices", None) is None:
        return
    backbone: Any = config
    stages = [0, *(block + 1 for block in blocks)]
    selected = {index % len(names) for index in backbone.out_indices}
    places = {len(stages) - 1 - stages[::-1].index(stage) for stage in selected if stage in stages}
    if len(names) - 1 in selected or not places:
        places.add(len(stages) - 1)
    backbone.stage_names = ["stem", *(f"stage{number}" for number in range(1, len(stages)))]
    backbone.set_output_features_output_indices(out_features=None, out_indices=sorted(places))
