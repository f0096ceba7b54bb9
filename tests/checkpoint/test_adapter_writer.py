"""An adapter that is written is what PEFT loads: base and adapter are the changed model, up to what it says."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from cases import CASES, Case
from safetensors.torch import load_file
from transformers import PreTrainedModel

from transfuse.base.batch import cast
from transfuse.checkpoint.adapters.layout import adapter_bytes
from transfuse.checkpoint.adapters.writer import AdapterContent, write_adapter
from transfuse.checkpoint.reading.adapter_folder import base_folder
from transfuse.errors import ConfigError
from transfuse.network.outputs import model_output

NAMES = (
    *("ViTForImageClassification", "BertForMaskedLM", "BertForSequenceClassification", "GPT2LMHeadModel"),
    *("LlamaForCausalLM", "T5ForConditionalGeneration", "Dinov2ForImageClassification", "FalconForCausalLM"),
)


def case(name: str) -> Case:
    return next(case for case in CASES if case.name == name)


def written(folder: Path, base: PreTrainedModel, changed: PreTrainedModel, rank: int = 1000) -> AdapterContent:
    return write_adapter(folder, base, base.state_dict(), changed.state_dict(), rank, None)


def settings(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "adapter_config.json").read_text())


@torch.no_grad()
def outputs(case: Case, model: PreTrainedModel) -> torch.Tensor:
    return model_output(model, cast(case.inputs(model.config), torch.float64))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.filterwarnings("ignore::UserWarning")  # of PEFT, on tied embeddings
def test_with_full_rank_base_and_adapter_are_the_changed_model(name: str, tmp_path: Path) -> None:
    peft: Any = pytest.importorskip("peft", reason="peft is not installed; pip install peft")
    base, changed = (case(name).build(seed) for seed in (0, 1))
    content = written(tmp_path, base, changed)
    assert content.held == pytest.approx(1)
    assert content.left_out == []
    adapted = peft.PeftModel.from_pretrained(copy.deepcopy(base), str(tmp_path)).eval()
    expected = outputs(case(name), changed)
    torch.testing.assert_close(outputs(case(name), adapted.get_base_model()), expected, rtol=1e-6, atol=1e-9)
    known = peft.get_peft_model_state_dict(adapted, save_embedding_layers=True)
    assert load_file(tmp_path / "adapter_model.safetensors").keys() <= known.keys()
    torch.testing.assert_close(outputs(case(name), adapted.merge_and_unload()), expected, rtol=1e-6, atol=1e-9)
    assert (tmp_path / "adapter_model.safetensors").stat().st_size >= adapter_bytes(base, 1000)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_tied_embedding_stays_tied(tmp_path: Path) -> None:
    peft: Any = pytest.importorskip("peft", reason="peft is not installed; pip install peft")
    llama = case("LlamaForCausalLM")
    base, changed = (llama.build(seed, tie_word_embeddings=True) for seed in (0, 1))
    written(tmp_path, base, changed)
    assert settings(tmp_path)["ensure_weight_tying"]
    merged = peft.PeftModel.from_pretrained(base, str(tmp_path)).merge_and_unload()
    assert merged.lm_head.weight is merged.model.embed_tokens.weight
    torch.testing.assert_close(outputs(llama, merged), outputs(llama, changed))


def test_the_share_is_that_of_the_squared_difference(tmp_path: Path) -> None:
    base, changed = (case("GPT2LMHeadModel").build(seed) for seed in (0, 1))
    content = written(tmp_path, base, changed, rank=2)
    tensors = load_file(tmp_path / "adapter_model.safetensors")
    before, after = base.state_dict(), changed.state_dict()
    total = lacking = 0.0
    layers = [name.removesuffix(".lora_A.weight") for name in tensors if name.endswith("lora_A.weight")]
    for layer in layers:
        name = f"{layer.removeprefix('base_model.model.')}.weight"
        difference = (after[name] - before[name]).T  # GPT-2 stores [inputs, outputs]
        product = tensors[f"{layer}.lora_B.weight"] @ tensors[f"{layer}.lora_A.weight"]
        total += float(difference.square().sum())
        lacking += float((difference - product).square().sum())
    assert content.layers == len(layers) == 8
    assert content.layers_held == pytest.approx(1 - lacking / total)
    assert content.layers_held < content.held < 1
    assert (settings(tmp_path)["r"], settings(tmp_path)["fan_in_fan_out"]) == (2, True)


def test_what_did_not_change_is_not_held(tmp_path: Path) -> None:
    base = case("ViTForImageClassification").build(0)
    changed = copy.deepcopy(base)
    with torch.no_grad():
        changed.vit.layers[1].mlp.fc1.weight[:3] += 1  # of rank 1
        changed.vit.layers[0].mlp.fc1.weight += torch.randn(changed.vit.layers[0].mlp.fc1.weight.shape)
        changed.vit.layers[0].attention.q_proj.bias += 1
    content = written(tmp_path, base, changed, rank=5)
    found = settings(tmp_path)
    assert set(found["target_modules"]) == {"fc1", "vit.layers.0.attention.q_proj"}
    assert found["rank_pattern"] == {"vit.layers.1.mlp.fc1": 1, "vit.layers.0.attention.q_proj": 1}
    assert (found["modules_to_save"], found["bias"], content.copied) == (None, "lora_only", [])


def test_what_no_adapter_holds_is_named(tmp_path: Path) -> None:
    base, changed = (case("CLIPModel").build(seed) for seed in (0, 1))
    content = written(tmp_path, base, changed)
    assert content.left_out == ["logit_scale"]
    assert 0.99 < content.held < 1


def test_an_equal_model(tmp_path: Path) -> None:
    base = case("ViTForImageClassification").build(0)
    content = written(tmp_path, base, copy.deepcopy(base))
    assert (content.held, content.layers_held, content.copied) == (1, 1, [])
    peft: Any = pytest.importorskip("peft", reason="peft is not installed; pip install peft")
    peft.PeftModel.from_pretrained(base, str(tmp_path))


def test_the_base_is_read_at_the_revision_that_is_written(tmp_path: Path) -> None:
    base, folder = case("ViTForImageClassification").build(0), tmp_path / "adapter"
    base.save_pretrained(tmp_path / "base")
    folder.mkdir()
    found: list[str] = []

    def find(name: str) -> Path:
        found.append(name)
        return tmp_path / "base"

    for revision in (None, "v1"):
        write_adapter(folder, base, base.state_dict(), base.state_dict(), 1, "me/base", revision)
        assert base_folder(folder, find) == tmp_path / "base"
    write_adapter(folder, base, base.state_dict(), base.state_dict(), 1, str(tmp_path / "base"), "v1")
    assert base_folder(folder, find) == tmp_path / "base"
    assert found == ["me/base", "me/base@v1"]


@pytest.mark.parametrize("name", ["MixtralForCausalLM", "DINOv3ViTModel"])
def test_models_that_peft_cannot_adapt_are_refused(name: str, tmp_path: Path) -> None:
    base, changed = (case(name).build(seed) for seed in (0, 1))
    with pytest.raises(ConfigError, match="leave adapter-out out"):
        written(tmp_path, base, changed)
    assert not list(tmp_path.iterdir())


def test_other_shapes_and_ranks_are_refused(tmp_path: Path) -> None:
    base = case("ViTForImageClassification").build(0)
    wide = case("ViTForImageClassification").build(0, num_labels=7)
    with pytest.raises(ConfigError, match=r"classifier.weight is \(7, 24\) in the fused model and \(5, 24\)"):
        written(tmp_path, base, wide)
    with pytest.raises(ConfigError, match="rank of 0"):
        written(tmp_path, base, base, rank=0)
