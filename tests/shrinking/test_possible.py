"""Sizes that are asked for by a ratio or by another model, and sizes that no tensor has."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from cases import CASES
from torch import Tensor
from transformers import BertConfig, BertModel, Dinov2Config, Dinov2Model, FalconConfig, FalconForCausalLM

from transfuse.base.batch import split_batch
from transfuse.base.progress import silent
from transfuse.config.make import make
from transfuse.config.shrink_options import ShrinkOptions
from transfuse.errors import CheckpointError, ConfigError, DataError
from transfuse.network.model import network
from transfuse.network.parameter_count import parameter_count
from transfuse.network.sizes import Sizes, resized, sizes_of
from transfuse.network.target_sizes import target_sizes
from transfuse.shrinking.choose_sizes import choose_sizes
from transfuse.shrinking.possible import possible_sizes
from transfuse.shrinking.ratio import MIN_SHARE, candidates

BERT = BertConfig(
    hidden_size=24, num_hidden_layers=3, num_attention_heads=3, intermediate_size=36, vocab_size=31,
    max_position_embeddings=14,
)  # fmt: skip
DINO = Dinov2Config(hidden_size=24, num_hidden_layers=4, num_attention_heads=3, image_size=12, patch_size=4)
FALCON = FalconConfig(
    hidden_size=24, num_hidden_layers=3, num_attention_heads=4, num_kv_heads=2, new_decoder_architecture=True,
    vocab_size=31, ffn_hidden_size=40,
)  # fmt: skip
by_name = {case.name: case for case in CASES}


def refusal(model: Any, loaded: Any, error: type[Exception] = ConfigError, **options: Any) -> str:
    with pytest.raises(error) as caught:
        possible_sizes(model, loaded, make(ShrinkOptions, options))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("ratio", [0.8, 0.5, 0.3])
@pytest.mark.parametrize(("architecture", "config"), [(BertModel, BERT), (Dinov2Model, DINO)], ids=["bert", "dino"])
def test_candidates_have_about_the_share(architecture: Any, config: Any, ratio: float) -> None:
    whole = parameter_count(architecture, config)
    series = candidates(architecture, config, ratio, removable=True)
    shares = {sizes: parameter_count(architecture, resized(config, sizes)) / whole for some in series for sizes in some}
    assert len(shares) == 1 or min(shares.values()) >= MIN_SHARE * ratio
    assert max(shares.values()) > 0.85 * ratio


def test_without_a_head_the_sizes_with_the_most_similar_embeddings_are_taken() -> None:
    torch.manual_seed(0)
    ids = torch.randint(31, (24, 8))
    batches = [*split_batch({"input_ids": ids, "attention_mask": torch.ones_like(ids)}, 8)]
    large = network(BertModel(BERT).eval(), torch.device("cpu"))
    series = candidates(BertModel, BERT, 0.6, removable=True)
    sizes, tried = choose_sizes(large, series, (batches[:2], batches[2:]), silent)
    assert {each["hidden_size"] for each in tried} == {16, 24}  # other widths are compared too
    best = min(tried, key=lambda each: each["divergence"])
    assert sizes.given() | {"divergence": best["divergence"]} == best
    assert 0 < best["divergence"] < max(each["divergence"] for each in tried) < 2
    with pytest.raises(DataError, match="too few"):
        choose_sizes(large, series, (batches[:1], [*split_batch(batches[2], 3)][:1]), silent)


def test_sizes_are_compared_on_samples_that_nothing_was_fitted_to(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Tensor] = []

    def remember(small: Any, projection: Any, batches: Any, *_: Any) -> dict[str, Any]:
        seen.extend(batch["input_ids"] for batch in batches)
        return {}

    monkeypatch.setattr("transfuse.shrinking.small_model.fit_layers", remember)
    batches = [{"input_ids": torch.full((4, 6), number)} for number in range(8)]
    large = network(BertModel(BERT).eval(), torch.device("cpu"))
    choose_sizes(large, candidates(BertModel, BERT, 0.6, removable=True), (batches[:6], batches[6:]), silent)
    assert set(torch.cat(seen).unique().tolist()) == set(range(6))


def test_the_hidden_units_of_falcon_are_a_size() -> None:
    assert sizes_of(FALCON).intermediate_size == 40
    assert resized(FALCON, target_sizes(FALCON, Sizes(intermediate_size=16))).ffn_hidden_size == 16
    ((sizes, *_), *_) = candidates(FalconForCausalLM, FALCON, 0.5, removable=True)
    share = parameter_count(FalconForCausalLM, resized(FALCON, sizes)) / parameter_count(FalconForCausalLM, FALCON)
    assert 0.45 < share <= 0.5


def test_a_ratio_leaves_out_the_sizes_that_are_impossible(tmp_path: Path) -> None:
    """Files of sentence-transformers hold the width."""
    model = BertModel(BERT)
    model.save_pretrained(tmp_path)
    modules = [{"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"}]
    (tmp_path / "modules.json").write_text(json.dumps(modules))
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": 24}))
    widths = {
        sizes.hidden_size
        for some in possible_sizes(tmp_path, model, make(ShrinkOptions, {"ratio": 0.5}))
        for sizes in some
    }
    assert widths == {24}
    assert "hold the hidden_size" in refusal(tmp_path, model, CheckpointError, hidden_size=16)
    assert {sizes.hidden_size for some in candidates(BertModel, BERT, 0.5, True) for sizes in some} != widths


def test_another_model_whose_heads_are_larger_is_refused(tmp_path: Path) -> None:
    case = by_name["LlamaForCausalLM"]
    model = case.build()
    case.configure(num_hidden_layers=1, head_dim=2).save_pretrained(tmp_path / "smaller")
    case.configure(num_hidden_layers=1, head_dim=12).save_pretrained(tmp_path / "larger")
    ((sizes,),) = possible_sizes(model, model, make(ShrinkOptions, {"like": str(tmp_path / "smaller")}))
    assert (sizes.layers, sizes.head_size) == (1, 2)
    message = refusal(model, model, like=str(tmp_path / "larger"))
    assert message.startswith(f"like: the sizes of {tmp_path / 'larger'} do not fit; head_size: 12 is more than the 6")


def test_a_size_that_no_tensor_has_is_refused(tmp_path: Path) -> None:
    """All feed-forward networks are experts, whose units moe_intermediate_size counts."""
    case = by_name["Qwen3MoeForCausalLM"]
    model = case.build()
    for others in ({}, {"experts": 1}):
        message = refusal(model, model, intermediate_size=9, **others)
        assert message == "intermediate_size: no tensor of the model has this size; leave it out"
    case.configure(intermediate_size=9, num_experts=2).save_pretrained(tmp_path)
    ((sizes,),) = possible_sizes(model, model, make(ShrinkOptions, {"like": str(tmp_path)}))
    assert sizes == target_sizes(model.config, Sizes(experts=2))
