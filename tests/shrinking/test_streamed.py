"""Fewer experts in a model whose weights stay in their files: the same checkpoint, bit for bit."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from cases import CASES, Case
from comparisons import stored
from languages import TEXTS, qwen3_moe, saved
from transformers import AutoModelForCausalLM

import transfuse
from transfuse.checkpoint.reading.files import weight_files
from transfuse.checkpoint.reading.load import with_eager_experts
from transfuse.errors import ConfigError
from transfuse.network.model import Network
from transfuse.shrinking.small_model import with_fewer_experts

by_name = {case.name: case for case in CASES}
QUICK = {"experts": 1, "effort": "quick", "lines": True}


def checkpoint(folder: Path, case: Case, dtype: torch.dtype) -> Path:
    """A model of this family, in several files, with the tokenizer of the other tests."""
    saved(folder, qwen3_moe, 1)
    words = json.loads((folder / "config.json").read_text())["vocab_size"]
    for file in folder.glob("model*"):
        file.unlink()
    case.build(1, vocab_size=words, max_position_embeddings=64).to(dtype).save_pretrained(folder, max_shard_size="8KB")
    return folder


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", ["MixtralForCausalLM", "Qwen3MoeForCausalLM", "GptOssForCausalLM"])
def test_it_is_the_loaded_one(name: str, dtype: torch.dtype, tmp_path: Path) -> None:
    model = checkpoint(tmp_path / "large", by_name[name], dtype)
    assert len(weight_files(model)) > 2
    for streamed in (True, False):
        shrunk = transfuse.shrink(model, TEXTS, stream=streamed, device="cpu", **QUICK)
        assert bool(shrunk.record.get("streamed")) == streamed
        shrunk.save(tmp_path / str(streamed))
    one, two = stored(tmp_path / "True"), stored(tmp_path / "False")
    assert one.keys() == two.keys()
    for key, values in one.items():
        assert values.dtype == two[key].dtype == dtype, key
        assert torch.equal(values, two[key]), key
    configs = [json.loads((tmp_path / folder / "config.json").read_text()) for folder in ("True", "False")]
    assert configs[0] == configs[1]
    small = with_eager_experts(AutoModelForCausalLM.from_pretrained(tmp_path / "True"))
    assert small.num_parameters() < 0.9 * sum(values.numel() for values in stored(model).values())
    assert torch.isfinite(small(torch.tensor([[1, 2, 3]])).logits).all()


def test_all_tensors_of_the_large_and_the_small_model_are_mapped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    networks: list[Network] = []

    def recorded(large: Network, *arguments: Any) -> tuple[Network, dict[str, Any]]:
        small, facts = with_fewer_experts(large, *arguments)
        networks.extend((large, small))
        return small, facts

    monkeypatch.setattr("transfuse.shrinking.small_model.with_fewer_experts", recorded)
    model = checkpoint(tmp_path / "large", by_name["Qwen3MoeForCausalLM"], torch.bfloat16)
    transfuse.shrink(model, TEXTS, stream=True, device="cpu", **QUICK)
    assert len(networks) == 2
    for network in networks:
        mapped = network.materialize(network.tensors)  # writes what is not mapped yet
        assert [name for name, values in network.tensors.items() if mapped[name].data_ptr() != values.data_ptr()] == []


def test_what_needs_the_model_in_memory_says_so(tmp_path: Path) -> None:
    model = saved(tmp_path / "large", qwen3_moe, 1)
    for options, words in (
        ({"experts": 1}, "training runs on it"),
        ({"experts": 1, "hidden_size": 16, "effort": "quick"}, "more than the number of its experts"),
        ({"layers": 1, "effort": "quick"}, "more than the number of its experts"),
    ):
        with pytest.raises(ConfigError, match=f"stream: the model must be loaded, because {words}"):
            transfuse.shrink(model, TEXTS, stream=True, device="cpu", **options)
    loaded = AutoModelForCausalLM.from_pretrained(model)
    with pytest.raises(ConfigError, match="in memory already"):
        transfuse.shrink(loaded, TEXTS, stream=True, **QUICK)
