"""Models are fused whose heads differ in channels, in number, or in the keys that they share."""

from pathlib import Path
from typing import Any

import pytest
from languages import TEXTS, llama, saved
from transformers import PreTrainedModel, Qwen2Config, Qwen2ForCausalLM
from wide_models import neox

import transfuse
from transfuse.fusion.sizes.checks import least_sizes
from transfuse.network.sizes import Sizes, sizes_of


@pytest.mark.parametrize(
    ("own", "wanted", "least"),
    [((14, 2), (12, 12), (12, 2)), ((6, 2), (4, 4), (4, 2)), ((8, 1), (4, 4), (4, 1)), ((32, 32), (15, 5), (5, 5))],
)
def test_as_many_heads_stay_as_the_anchor_has_room_for(
    own: tuple[int, int], wanted: tuple[int, int], least: tuple[int, int]
) -> None:
    found = least_sizes(*(Sizes(heads=heads, kv_heads=groups) for heads, groups in (own, wanted)))
    assert (found.heads, found.kv_heads) == least


@pytest.mark.parametrize("anchor", [0, 1])
@pytest.mark.parametrize(
    "sizes",
    [
        (
            {"head_dim": 4, "num_attention_heads": 4, "num_key_value_heads": 1},
            {"head_dim": 8, "num_attention_heads": 3, "num_key_value_heads": 1, "hidden_size": 36},
        ),
    ],
)
def test_llamas_of_other_heads_are_fused(anchor: int, sizes: Any, tmp_path: Path) -> None:
    """As Llama 3.2 with one and with three billion parameters: more query heads per group, but half the channels."""
    paths = [saved(tmp_path / str(n), lambda words, n=n: llama(words, **sizes[n]), n) for n in range(2)]
    order = [paths[anchor], paths[1 - anchor]]
    fusion = transfuse.fuse(order, data=TEXTS)
    assert sizes_of(fusion.model.config).head_size == sizes[anchor]["head_dim"]
    fusion.save(tmp_path / "out")


@pytest.mark.parametrize("anchor", [0, 1])
def test_models_of_which_one_shares_keys_are_fused(anchor: int, tmp_path: Path) -> None:
    """As Gemma with two billion parameters, where all query heads share keys, and with seven billion."""
    sizes = ({"num_key_value_heads": 4}, {"num_key_value_heads": 1, "num_hidden_layers": 1})
    paths = [
        saved(tmp_path / str(n), lambda words, n=n: llama(words, num_attention_heads=4, **sizes[n]), n)
        for n in range(2)
    ]
    for data in (TEXTS,) if anchor else (TEXTS, None):
        fusion = transfuse.fuse([paths[anchor], paths[1 - anchor]], data=data)
        assert "it gets wider without a change of its function" in fusion.record["resized"][0]


def test_heads_that_make_the_width_in_one_order_of_changes_only(tmp_path: Path) -> None:
    """As Qwen2.5: 7 heads of 64 channels for each key-value head, or 6 of 128."""

    def qwen(words: int, width: int, heads: int) -> PreTrainedModel:
        return Qwen2ForCausalLM(
            Qwen2Config(
                vocab_size=words, hidden_size=width, num_hidden_layers=1, num_attention_heads=heads,
                num_key_value_heads=1, intermediate_size=20,
            )
        )  # fmt: skip

    paths = [
        saved(tmp_path / str(width), lambda words, width=width, heads=heads: qwen(words, width, heads), 0)
        for width, heads in ((28, 7), (48, 6))
    ]
    fusion = transfuse.fuse(paths, data=TEXTS)
    assert "has a width of 48 and 6 heads, the anchor has a width of 28 and 7 heads" in fusion.record["resized"][0]
    assert fusion.model.config.to_dict().get("head_dim") is None


def test_widths_of_fused_projections_in_files(tmp_path: Path) -> None:
    """Their matrices are not compared with those of the anchor, which have more rows."""
    paths = [saved(tmp_path / str(width), lambda words, width=width: neox(words, width), 0) for width in (32, 16)]
    assert transfuse.fuse(paths).record["resized"]
