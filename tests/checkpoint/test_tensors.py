"""Tensors that do not belong to the model, are missing, or hold what is not a number."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from checkpoints import QUERY, edit_config, edit_weights, refuses
from languages import qwen3_moe, saved
from torch import Tensor
from transformers import BertConfig, BertForMaskedLM

from transfuse.checkpoint.reading.finite import check_finite
from transfuse.checkpoint.reading.load import load_model
from transfuse.errors import CheckpointError


def test_missing_tensors_are_counted_and_three_are_named(vit: Path) -> None:
    edit_weights(vit, lambda tensors: [tensors.pop(name) for name in list(tensors) if "layer.1.attention" in name])
    names = [f"vit.layers.1.attention.{name}" for name in ("k_proj.bias", "k_proj.weight", "o_proj.bias")]
    refuses(vit, f"missing: 8 ({', '.join(names)}, ...)")


def test_one_missing_tensor(vit: Path) -> None:
    edit_weights(vit, lambda tensors: tensors.pop("classifier.bias"))
    refuses(vit, "missing: 1 (classifier.bias)")


def test_unexpected_tensors(vit: Path) -> None:
    edit_weights(vit, lambda tensors: tensors.update({"extra.weight": torch.zeros(2)}))
    refuses(vit, "unexpected: 1 (extra.weight)")


def test_a_renamed_tensor_is_both_missing_and_unexpected(vit: Path) -> None:
    edit_weights(vit, lambda tensors: tensors.update({"head.bias": tensors.pop("classifier.bias")}))
    refuses(vit, "missing: 1 (classifier.bias), unexpected: 1 (head.bias)")


def test_a_layer_more_than_the_config_says(vit: Path) -> None:
    edit_config(vit, num_hidden_layers=1)
    refuses(vit, "unexpected: 16 (")


def test_a_tensor_that_transformers_itself_ignores(tmp_path: Path) -> None:
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    BertForMaskedLM(BertConfig(**sizes, vocab_size=30)).save_pretrained(tmp_path)
    position_ids = {"bert.embeddings.position_ids": torch.arange(8)}
    edit_weights(tmp_path, lambda tensors: tensors.update(position_ids))
    assert type(load_model(tmp_path)) is BertForMaskedLM


def test_a_wrong_shape(vit: Path) -> None:
    edit_weights(vit, lambda tensors: tensors.update({"classifier.weight": torch.zeros(5, 16)}))
    refuses(vit, "of a wrong shape: 1 (classifier.weight (5, 16) for (3, 16))")


GATE = "model.layers.0.mlp.experts.1.gate_proj.weight"
SPOILED: dict[str, tuple[Callable[[dict[str, Tensor]], object], str]] = {
    "missing": (lambda tensors: tensors.pop(GATE), f"tensors missing: 1 ({GATE});"),
    "renamed": (
        lambda tensors: tensors.update({f"{GATE}s": tensors.pop(GATE)}),
        f"tensors missing: 1 ({GATE}), unexpected: 1 ({GATE}s);",
    ),
    "of a wrong shape": (
        lambda tensors: tensors.update({GATE: torch.zeros(3, 4)}),
        f"tensors of a wrong shape: 1 ({GATE} (3, 4) for ",
    ),
    "a whole expert": (
        lambda tensors: [tensors.pop(name) for name in list(tensors) if "layers.0.mlp.experts.1." in name],
        f"tensors missing: 3 ({GATE.replace('gate', 'down')}, {GATE}, {GATE.replace('gate', 'up')});",
    ),
}


@pytest.mark.parametrize("spoiled", SPOILED)
def test_a_tensor_of_an_expert(tmp_path: Path, spoiled: str) -> None:
    """transformers joins these and names none of them."""
    saved(tmp_path, qwen3_moe, 0)
    edit, said = SPOILED[spoiled]
    edit_weights(tmp_path, edit)
    refuses(tmp_path, said, "weights and config.json do not belong together")


def test_a_config_of_terabytes_allocates_nothing(vit: Path) -> None:
    edit_config(vit, hidden_size=2_000_000)
    refuses(vit, "of a wrong shape", "(2000000,)")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_values_that_are_not_finite(vit: Path, value: float, dtype: torch.dtype) -> None:
    def poison(tensors: dict[str, Tensor]) -> None:
        tensors.update({name: tensor.to(dtype) for name, tensor in tensors.items()})
        tensors[QUERY][1, 2:5] = value

    edit_weights(vit, poison)
    refuses(vit, str(vit), "3 of 256 values of vit.layers.0.attention.q_proj.weight are NaN or infinite")


def test_a_dtype_too_narrow_for_the_weights(vit: Path) -> None:
    edit_weights(vit, lambda tensors: tensors["classifier.bias"].fill_(1e6))
    assert load_model(vit).classifier.bias.max() == 1e6
    refuses(vit, "3 of 3 values of classifier.bias", "torch.float16", dtype=torch.float16)


def test_check_finite() -> None:
    sound = {"a": torch.zeros(3), "b": torch.ones(2, dtype=torch.int64), "c": torch.empty(0)}
    check_finite(sound, "here")
    with pytest.raises(CheckpointError, match=r"^here: 1 of 3 values of n \(and some in 1 more tensor\) are NaN"):
        check_finite({**sound, "n": torch.tensor([0.0, torch.nan, 1.0]), "m": torch.tensor(torch.inf)}, "here")


def test_finite_numbers_may_have_a_sum_that_is_not() -> None:
    large = torch.full((1000,), 6e4, dtype=torch.float16)
    assert large.sum().isinf()
    check_finite({"a": large}, "model")
    for bad in (float("nan"), float("inf"), float("-inf")):
        for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
            values = torch.tensor([1.0, bad, -bad, 2.0], dtype=dtype)
            with pytest.raises(CheckpointError, match="2 of 4 values of a"):
                check_finite({"a": values}, "model")
