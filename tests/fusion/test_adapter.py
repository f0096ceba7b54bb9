"""A fusion writes its difference from the base, or from the anchor, as an adapter of PEFT."""

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from cases import BERT
from languages import TEXTS, gpt2, llama, saved
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForCausalLM, BertConfig, BertForMaskedLM, BertForSequenceClassification

import transfuse
from transfuse.checkpoint.reading.load import load_model
from transfuse.errors import ConfigError, OutputError

needs_peft = pytest.mark.skipif(importlib.util.find_spec("peft") is None, reason="pip install peft")
SETTINGS = "adapter_config.json"


def tuned(base: Path, folder: Path, seed: int) -> Path:
    """A fine-tune of a base: every matrix of its layers changed by one of rank 2."""
    model = AutoModelForCausalLM.from_pretrained(base)
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, matrix in model.named_parameters():
            if "proj" in name:
                matrix += 0.001 * torch.randn(len(matrix), 2) @ torch.randn(2, matrix.shape[1])
    shutil.copytree(base, folder)
    model.save_pretrained(folder)
    return folder


def factors(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "adapter_model.safetensors")


def settings(folder: Path) -> dict[str, Any]:
    return json.loads((folder / SETTINGS).read_text())


def assert_equal_models(first: Path, second: Path) -> None:
    tensors, others = (load_model(path).state_dict() for path in (first, second))
    for name, values in tensors.items():
        torch.testing.assert_close(values, others[name], rtol=1e-5, atol=1e-6, msg=name)


@pytest.fixture
def family(tmp_path: Path) -> list[Path]:
    """A base, and two fine-tunes of it."""
    base = saved(tmp_path / "base", llama, 1)
    return [base, *(tuned(base, tmp_path / f"tuned {seed}", seed) for seed in (1, 2))]


def test_fine_tunes_of_low_rank_are_held_as_a_whole(tmp_path: Path, family: list[Path]) -> None:
    base, *models = family
    fusion = transfuse.fuse(models, base=base, merge="task-arithmetic", align="none", adapter_out=16)
    out = fusion.save(tmp_path / "out")
    record = json.loads((out / "transfuse.json").read_text())["adapter"]
    assert record["layers_held"] == pytest.approx(1, abs=1e-6)
    assert (record["rank"], record["copied"], record["left_out"]) == (4, [], [])
    assert settings(out / "adapter")["base_model_name_or_path"] == str(base)
    assert "--adapter-out 16" in (out / "README.md").read_text()
    assert f"from_pretrained(base, '{out}/adapter')" in (out / "adapter" / "README.md").read_text()
    if importlib.util.find_spec("peft"):
        assert_equal_models(out / "adapter", out)


@pytest.mark.parametrize("build", [gpt2, llama])
def test_without_a_base_it_is_the_difference_from_the_anchor(tmp_path: Path, build: Any) -> None:
    models = [saved(tmp_path / f"model {seed}", build, seed) for seed in (1, 2)]
    loaded, streamed = (
        transfuse.fuse(models, stream=stream, adapter_out=3).save(tmp_path / f"stream {stream}")
        for stream in (False, True)
    )
    assert settings(loaded / "adapter") == settings(streamed / "adapter")
    assert settings(loaded / "adapter")["base_model_name_or_path"] == str(models[0])
    for name, values in factors(loaded / "adapter").items():
        torch.testing.assert_close(values, factors(streamed / "adapter")[name])
    record = json.loads((loaded / "transfuse.json").read_text())["adapter"]
    assert 0.1 < record["layers_held"] < 0.9


def test_what_the_base_lacks_is_copied(tmp_path: Path) -> None:
    torch.manual_seed(0)
    base = BertForMaskedLM(BertConfig(**BERT))
    base.save_pretrained(tmp_path / "base")
    for labels in (4, 5):
        model = BertForSequenceClassification.from_pretrained(tmp_path / "base", num_labels=labels)
        with torch.no_grad():
            for layer in model.bert.encoder.layer:
                layer.attention.self.query.weight[0] += 0.01 * labels
        model.save_pretrained(tmp_path / f"labels {labels}")
    models = [tmp_path / "labels 4", tmp_path / "labels 5"]
    fusion = transfuse.fuse(models, base=tmp_path / "base", merge="task-arithmetic", head="anchor", adapter_out=8)
    out = fusion.save(tmp_path / "out")
    record = json.loads((out / "transfuse.json").read_text())["adapter"]
    assert record["copied"] == ["bert.pooler.dense", "classifier"]
    assert settings(out / "adapter")["target_modules"] == ["query"]
    if importlib.util.find_spec("peft"):
        assert_equal_models(out / "adapter", out)


def test_in_the_metric_of_the_samples(tmp_path: Path) -> None:
    models = [saved(tmp_path / f"model {seed}", gpt2, seed) for seed in (1, 2)]
    plain, measured = (
        transfuse.fuse(models, data=data, merge="mean").save_adapter(tmp_path / name, 3)
        for name, data in (("plain", None), ("measured", TEXTS))
    )
    assert plain["outputs_held"] is None
    assert measured["layers_held"] < plain["layers_held"]
    assert measured["outputs_held"] > measured["layers_held"]


@needs_peft
def test_an_adapter_as_anchor_stands_for_its_base(tmp_path: Path, family: list[Path]) -> None:
    base, *models = family
    fusion = transfuse.fuse(models, base=base, merge="task-arithmetic", align="none")
    fusion.save_adapter(tmp_path / "adapter", 16)
    again = transfuse.fuse([tmp_path / "adapter", models[0]], align="none", weights=[1, 0], adapter_out=16)
    out = again.save(tmp_path / "out")
    assert settings(out / "adapter")["base_model_name_or_path"] == str(base)
    assert_equal_models(out / "adapter", tmp_path / "adapter")


def test_models_in_memory(tmp_path: Path, family: list[Path]) -> None:
    models = [AutoModelForCausalLM.from_pretrained(path) for path in family]
    held = transfuse.fuse(models, align="none").save_adapter(tmp_path / "adapter", 4)
    assert held["base"] == settings(tmp_path / "adapter")["base_model_name_or_path"] == str(family[0])
    models[0].config._name_or_path = models[0].name_or_path = ""
    transfuse.fuse(models, align="none").save_adapter(tmp_path / "unnamed", 4)
    assert settings(tmp_path / "unnamed")["base_model_name_or_path"] is None
    assert "a model passed in memory" in (tmp_path / "unnamed" / "README.md").read_text()


def test_an_output_with_an_adapter_is_replaced_unless_it_holds_more(tmp_path: Path, family: list[Path]) -> None:
    fusion = transfuse.fuse(family, align="none", adapter_out=2)
    out = fusion.save(tmp_path / "out")
    fusion.save(out, overwrite="replace")
    (out / "adapter" / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"holds adapter/notes.txt"):
        fusion.save(out, overwrite="replace")


def test_what_cannot_be_written_leaves_nothing(tmp_path: Path, family: list[Path]) -> None:
    fusion = transfuse.fuse(family, align="none")
    with pytest.raises(ConfigError, match="rank of 0"):
        fusion.save_adapter(tmp_path / "adapter", 0)
    assert not (tmp_path / "adapter").exists()
    with pytest.raises(OutputError, match="is not empty"):
        fusion.save_adapter(family[0], 2)
    with pytest.raises(ConfigError, match="adapter_out"):
        transfuse.fuse(family, adapter_out=0)


def test_a_base_of_another_shape_is_refused_before_anything_is_merged(tmp_path: Path, family: list[Path]) -> None:
    base = AutoModelForCausalLM.from_pretrained(family[0])
    base.resize_token_embeddings(base.config.vocab_size + 8)
    shutil.copytree(family[0], tmp_path / "padded")
    base.save_pretrained(tmp_path / "padded")
    asked = {"base": tmp_path / "padded", "merge": "task-arithmetic", "align": "none"}
    transfuse.match(family[1:], **asked)
    with pytest.raises(ConfigError, match=r"embed_tokens.weight is .* in its base"):
        transfuse.match(family[1:], **asked, adapter_out=4)
