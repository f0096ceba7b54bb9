"""An adapter of PEFT is read as its base model with the adapter merged into it."""

import hashlib
import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from cases import VIT
from checkpoints import as_pickle, edit_config, edit_weights, refuses
from languages import gpt2, llama, saved
from safetensors.torch import load_file, save_file
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertForPreTraining,
    BertModel,
    LlamaForSequenceClassification,
    PreTrainedModel,
    ViTConfig,
    ViTForImageClassification,
    ViTModel,
)

import transfuse
from transfuse.checkpoint.reading.companions import companion_files
from transfuse.checkpoint.reading.load import load_empty, load_model, local_directory
from transfuse.checkpoint.record.origin import origin
from transfuse.errors import CheckpointError, OutputError

peft: Any = pytest.importorskip("peft", reason="peft is not installed; pip install peft")


def adapted(model: PreTrainedModel, folder: Path, base: str | None, **settings: Any) -> PreTrainedModel:
    """Save an adapter with random weights onto a model; returns the merged model, by peft itself."""
    torch.manual_seed(7)
    config = peft.LoraConfig(**{"r": 2, "init_lora_weights": False} | settings)
    wrapped = peft.get_peft_model(model, config)
    for name, parameter in wrapped.named_parameters():
        if "modules_to_save" in name:
            torch.nn.init.normal_(parameter)
    wrapped.peft_config["default"].base_model_name_or_path = base
    wrapped.save_pretrained(folder)
    return wrapped.merge_and_unload().eval()


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path, PreTrainedModel]:
    """Folders of a base model and of an adapter on it, and the merged model."""
    base = saved(tmp_path / "base", llama, 1)
    merged = adapted(load_model(base), tmp_path / "adapter", str(base), task_type="CAUSAL_LM")
    return base, tmp_path / "adapter", merged


def edit_settings(adapter: Path, **changes: object) -> None:
    file = adapter / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def assert_equal(actual: PreTrainedModel, expected: PreTrainedModel) -> None:
    assert type(actual) is type(expected)
    tensors, others = actual.state_dict(), expected.state_dict()
    assert tensors.keys() == others.keys()
    for name in tensors:
        torch.testing.assert_close(tensors[name], others[name], rtol=0, atol=0, msg=name)


def test_the_merged_model_is_loaded(pair: tuple[Path, Path, PreTrainedModel]) -> None:
    base, adapter, merged = pair
    model = load_model(adapter)
    assert_equal(model, merged)
    assert not torch.equal(
        model.model.layers[0].self_attn.q_proj.weight, load_model(base).model.layers[0].self_attn.q_proj.weight
    )
    assert local_directory(adapter) == local_directory(str(adapter))  # merged once
    assert len(AutoTokenizer.from_pretrained(local_directory(adapter))) == model.config.vocab_size  # the base's


def test_the_precision_is_that_of_the_weights_of_the_base(tmp_path: Path) -> None:
    """Llama checkpoints of 2023 hold rotary frequencies in float32, which the model does not read."""
    base = saved(tmp_path / "base", llama, 1)
    edit_weights(base, lambda tensors: tensors.update({name: values.half() for name, values in tensors.items()}))
    frequencies = "model.layers.0.self_attn.rotary_emb.inv_freq"
    edit_weights(base, lambda tensors: tensors.update({frequencies: torch.ones(4)}))
    adapted(load_model(base), tmp_path / "adapter", str(base), task_type="CAUSAL_LM")
    assert load_model(tmp_path / "adapter").dtype == torch.float16


@pytest.mark.parametrize("stream", [False, True])
def test_the_fusion_is_that_of_the_merged_model(
    tmp_path: Path, pair: tuple[Path, Path, PreTrainedModel], stream: bool
) -> None:
    base, adapter, merged = pair
    shutil.copytree(base, tmp_path / "merged")
    merged.save_pretrained(tmp_path / "merged")
    other = saved(tmp_path / "other", llama, 2)
    for name in ("adapter", "merged"):
        transfuse.fuse([tmp_path / name, other], stream=stream).save(tmp_path / f"out of {name}")
    outputs = [load_file(tmp_path / f"out of {name}" / "model.safetensors") for name in ("adapter", "merged")]
    assert outputs[0].keys() == outputs[1].keys()
    assert all(torch.equal(outputs[0][name], outputs[1][name]) for name in outputs[0])
    record = json.loads((tmp_path / "out of adapter" / "transfuse.json").read_text())["models"][0]
    assert record["path"] == str(adapter)
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        assert record["sha256"][name] == hashlib.sha256((adapter / name).read_bytes()).hexdigest()
    weights = hashlib.sha256((base / "model.safetensors").read_bytes()).hexdigest()
    assert record["sha256"]["base/model.safetensors"] == weights
    card = (tmp_path / "out of adapter" / "README.md").read_text()
    assert str(adapter) in card
    assert "transfuse-adapter-" not in card
    assert (tmp_path / "out of adapter" / "tokenizer.json").is_file()


def test_files_of_an_adapter_are_copied_or_named(tmp_path: Path) -> None:
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    BertModel(BertConfig(**sizes, vocab_size=30)).save_pretrained(tmp_path / "base")
    pooling = {"pooling_mode_mean_tokens": True}
    for name in ("one", "two"):
        base = load_model(tmp_path / "base")
        adapted(base, tmp_path / name, str(tmp_path / "base"), target_modules=["query"], task_type="FEATURE_EXTRACTION")
        (tmp_path / name / "1_Pooling").mkdir()
        (tmp_path / name / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
        modules = [("", "Transformer"), ("1_Pooling", "Pooling")]
        entries = [{"path": path, "type": f"sentence_transformers.models.{kind}"} for path, kind in modules]
        (tmp_path / name / "modules.json").write_text(json.dumps(entries))
        (tmp_path / name / "notes.md").write_text("a note")
    out = transfuse.fuse([tmp_path / "one", tmp_path / "two"]).save(tmp_path / "out")
    record = json.loads((out / "transfuse.json").read_text())
    assert record["left_out"] == ["notes.md"]
    assert record["sentence_transformers"] == ["1_Pooling/config.json", "modules.json"]
    assert all((out / name).is_file() for name in record["sentence_transformers"])
    (tmp_path / "two" / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true}')
    with pytest.raises(CheckpointError, match="pool"):
        transfuse.fuse([tmp_path / "one", tmp_path / "two"])


def with_card(folder: Path, header: str) -> None:
    (folder / "README.md").write_text(f"---\n{header}\n---\ntext", encoding="utf-8")


def test_the_license_is_that_of_the_adapter_or_of_its_base(
    pair: tuple[Path, Path, PreTrainedModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    base, adapter, merged = pair
    with_card(base, "license: other\nlicense_name: llama3\ndatasets: a/b")
    with_card(adapter, "library_name: peft\nlanguage: en")
    monkeypatch.setattr("transfuse.checkpoint.reading.load.snapshot_download", lambda name, **options: adapter)
    for source in (adapter, "me/adapter"):  # also on the Hub
        due = {"license": "other", "license_name": "llama3", "library_name": "peft", "language": ["en"]}
        assert origin(source, merged).card == due
    with_card(adapter, "license: cc-by-nc-4.0")
    for source in (adapter, "me/adapter"):
        assert origin(source, merged).card == {"license": "cc-by-nc-4.0"}


def test_an_adapter_with_a_tokenizer_keeps_the_license_of_its_base(pair: tuple[Path, Path, PreTrainedModel]) -> None:
    base, adapter, _ = pair
    for name in ("LICENSE", "NOTICE.txt", "preprocessor_config.json", "chat_template.jinja"):
        (base / name).write_text("{}")
    AutoTokenizer.from_pretrained(base).save_pretrained(adapter)
    (adapter / "chat_template.jinja").unlink()
    merged = local_directory(adapter)
    assert {"LICENSE", "NOTICE.txt", "preprocessor_config.json", "tokenizer.json"} <= set(companion_files(merged))
    assert not (merged / "chat_template.jinja").exists()


def test_the_base_is_not_overwritten(tmp_path: Path, pair: tuple[Path, Path, PreTrainedModel]) -> None:
    base, adapter, _ = pair
    fusion = transfuse.fuse([adapter, saved(tmp_path / "other", llama, 2)], align="none")
    with pytest.raises(OutputError):
        fusion.save(base, overwrite="replace")


def test_a_base_beside_the_adapter(tmp_path: Path, pair: tuple[Path, Path, PreTrainedModel]) -> None:
    _, adapter, merged = pair
    edit_settings(adapter, base_model_name_or_path="../base")
    assert_equal(load_model(adapter), merged)


def test_an_adapter_that_changed_is_merged_again(pair: tuple[Path, Path, PreTrainedModel]) -> None:
    base, adapter, merged = pair
    load_empty(adapter)
    file = adapter / "adapter_model.safetensors"
    save_file({name: 2 * values for name, values in load_file(file).items()}, file, {"format": "pt"})
    before, after = (load_model(path).model.layers[0].self_attn.q_proj.weight for path in (base, adapter))
    once = merged.model.layers[0].self_attn.q_proj.weight
    torch.testing.assert_close(after - before, 4 * (once - before))  # both factors are doubled


def test_other_layers_and_kinds(tmp_path: Path) -> None:
    base = saved(tmp_path / "base", gpt2, 1)
    merged = adapted(load_model(base), tmp_path / "lora", str(base), target_modules=["c_attn", "c_fc"], use_dora=True)
    assert_equal(load_model(tmp_path / "lora"), merged)


@pytest.mark.parametrize("task", [None, "SEQ_CLS"])
def test_a_classifier_whose_head_the_adapter_brings(tmp_path: Path, task: str | None) -> None:
    torch.manual_seed(0)
    if task is None:  # peft writes the class into auto_mapping
        ViTModel(ViTConfig(**VIT), add_pooling_layer=False).save_pretrained(tmp_path / "base")
        model: PreTrainedModel = ViTForImageClassification.from_pretrained(tmp_path / "base", num_labels=3)
        settings: dict[str, Any] = {"target_modules": ["q_proj", "v_proj"], "modules_to_save": ["classifier"]}
    else:
        saved(tmp_path / "base", llama, 1)
        model = LlamaForSequenceClassification.from_pretrained(tmp_path / "base", num_labels=3)
        settings = {"task_type": task}
    merged = adapted(model, tmp_path / "adapter", str(tmp_path / "base"), **settings)
    loaded = load_model(tmp_path / "adapter")
    assert_equal(loaded, merged)
    assert loaded.config.num_labels == 3


def test_a_masked_language_model_whose_file_holds_more(tmp_path: Path) -> None:
    """The file of bert-base-uncased holds a pooler and the prediction of the next sentence."""
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    BertForPreTraining(BertConfig(**sizes, vocab_size=30)).save_pretrained(tmp_path / "base")
    edit_config(tmp_path / "base", architectures=["BertForMaskedLM"])
    base = load_model(tmp_path / "base")
    merged = adapted(base, tmp_path / "adapter", str(tmp_path / "base"), target_modules=["query", "value"])
    assert_equal(load_model(tmp_path / "adapter"), merged)
    edit_weights(tmp_path / "base", lambda tensors: tensors.update({"cls.other": torch.zeros(1)}))
    refuses(tmp_path / "adapter", "cls.other is unexpected")


def test_a_head_that_no_one_has(tmp_path: Path, pair: tuple[Path, Path, PreTrainedModel]) -> None:
    _, adapter, _ = pair
    edit_settings(adapter, task_type="SEQ_CLS")
    refuses(adapter, f"{adapter}: ", "score.weight", "LlamaForSequenceClassification", "modules_to_save")


@pytest.mark.parametrize("name", ["/no/such/base", "nobody/nothing"])
def test_a_base_that_is_missing(pair: tuple[Path, Path, PreTrainedModel], name: str, lookups: list[str]) -> None:
    _, adapter, _ = pair
    edit_settings(adapter, base_model_name_or_path=name)
    refuses(adapter, str(adapter / "adapter_config.json"), repr(name), "no such directory")


@pytest.mark.parametrize("name", [None, "", 3])
def test_no_base_is_named(pair: tuple[Path, Path, PreTrainedModel], name: object) -> None:
    _, adapter, _ = pair
    edit_settings(adapter, base_model_name_or_path=name)
    refuses(adapter, str(adapter / "adapter_config.json"), repr(name), "correct it")


def test_an_adapter_on_itself(pair: tuple[Path, Path, PreTrainedModel]) -> None:
    _, adapter, _ = pair
    edit_settings(adapter, base_model_name_or_path=str(adapter))
    refuses(adapter, "adapter_config.json", "which is an adapter too")


def test_another_base(tmp_path: Path, pair: tuple[Path, Path, PreTrainedModel]) -> None:
    _, adapter, _ = pair
    edit_settings(adapter, base_model_name_or_path=str(saved(tmp_path / "gpt2", gpt2, 0)))
    refuses(adapter, f"{adapter}: peft cannot merge this adapter of peft_type LORA into its base")


def test_weights_that_are_missing_or_of_other_layers(pair: tuple[Path, Path, PreTrainedModel]) -> None:
    _, adapter, _ = pair
    file = adapter / "adapter_model.safetensors"
    tensors = load_file(file)
    name = min(tensors)
    save_file({key: values for key, values in tensors.items() if key != name}, file, {"format": "pt"})
    refuses(adapter, "peft cannot merge", "missing adapter keys")
    odd = name.replace("layers.0", "layers.9")
    save_file({**tensors, odd: tensors[name].clone()}, file, {"format": "pt"})
    refuses(adapter, "peft cannot merge", f"no place for {odd}")
    file.write_bytes(file.read_bytes()[:-5])
    refuses(adapter, "adapter_model.safetensors", "damaged")
    file.unlink()
    refuses(adapter, str(adapter), "adapter_config.json without adapter_model.safetensors")


def test_a_kind_that_cannot_be_merged(tmp_path: Path) -> None:
    base = saved(tmp_path / "base", llama, 1)
    config = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2)
    wrapped = peft.get_peft_model(load_model(base), config)
    wrapped.peft_config["default"].base_model_name_or_path = str(base)
    wrapped.save_pretrained(tmp_path / "adapter")
    refuses(tmp_path / "adapter", "peft cannot merge", "PROMPT_TUNING", "changes no weights; give another kind")


def test_a_pickled_base(pair: tuple[Path, Path, PreTrainedModel]) -> None:
    base, adapter, _ = pair
    as_pickle(base)
    refuses(adapter, "adapter_config.json", str(base), "pickled", pickle="allow")


def test_a_quantized_base(pair: tuple[Path, Path, PreTrainedModel]) -> None:
    base, adapter, _ = pair
    edit_config(base, quantization_config={"quant_method": "bitsandbytes"})
    refuses(adapter, f"{adapter}: its base model {base}", "quantized", "; then set base_model_name_or_path")


def test_weights_of_the_base_that_are_not_finite(pair: tuple[Path, Path, PreTrainedModel]) -> None:
    base, adapter, _ = pair
    edit_weights(base, lambda tensors: tensors["model.norm.weight"].fill_(float("nan")))
    with pytest.raises(CheckpointError, match="NaN"):
        load_model(adapter)


@pytest.mark.parametrize("text", ["{", "[]"])
def test_settings_that_cannot_be_read(pair: tuple[Path, Path, PreTrainedModel], text: str) -> None:
    _, adapter, _ = pair
    (adapter / "adapter_config.json").write_text(text)
    refuses(adapter, str(adapter / "adapter_config.json"), "restore the file")


def test_without_peft(pair: tuple[Path, Path, PreTrainedModel], monkeypatch: pytest.MonkeyPatch) -> None:
    _, adapter, _ = pair
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "peft" else find(name))
    refuses(adapter, f"{adapter}: ", "pip install peft")
