"""A sound checkpoint comes back exactly as it was saved; a directory or config.json that is wrong is one clear line."""

import hashlib
import logging
import os
from collections.abc import Callable
from logging.handlers import BufferingHandler
from pathlib import Path

import pytest
import torch
from checkpoints import QUERY, as_pickle, as_shards, edit_config, edit_weights, refuses, same_weights
from safetensors.torch import load_file
from torch import Tensor
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForPreTraining,
    BertForSequenceClassification,
    BertModel,
    DebertaV2Config,
    DebertaV2Model,
    T5Config,
    T5EncoderModel,
    ViTForImageClassification,
    ViTModel,
)
from transformers.utils import logging as transformers_logging

from transfuse.checkpoint.reading.files import copy_companions, file_hashes, weight_files
from transfuse.checkpoint.reading.load import load_empty, load_model, local_directory
from transfuse.errors import CheckpointError

QUERY_OF_BERT = "encoder.layer.0.attention.self.query.weight"


def test_loads_the_class_and_the_exact_weights_in_eval_mode(saved: Path) -> None:
    model = load_model(str(saved))
    assert type(model) is ViTForImageClassification
    assert not model.training
    assert same_weights(model, saved)
    on_disk = load_file(saved / "model.safetensors")[QUERY]
    assert torch.equal(model.state_dict()["vit.layers.0.attention.q_proj.weight"], on_disk)
    assert model(torch.zeros(1, 3, 8, 8)).logits.isfinite().all()  # buffers are real too, none was left on "meta"


def test_tied_weights_are_not_missing(tmp_path: Path) -> None:
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    BertForMaskedLM(BertConfig(**sizes, vocab_size=30)).save_pretrained(tmp_path)
    model = load_model(tmp_path)
    assert model.get_input_embeddings().weight is model.get_output_embeddings().weight


def test_what_only_the_pre_training_read_is_left_out_of_a_masked_language_model(tmp_path: Path) -> None:
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    BertForPreTraining(BertConfig(**sizes, vocab_size=30)).save_pretrained(tmp_path)
    edit_config(tmp_path, architectures=["BertForMaskedLM"])
    model = load_model(tmp_path)
    stored = load_file(tmp_path / "model.safetensors")
    left_out = {name.split(".")[1] for name in stored.keys() - model.state_dict().keys()}
    assert left_out == {"pooler", "seq_relationship"}
    edit_config(tmp_path, architectures=["BertForTokenClassification"])
    refuses(tmp_path, "unexpected", "cls.")


def test_a_pooler_that_a_class_lacks_is_left_out(tmp_path: Path) -> None:
    """Many checkpoints of the Hub hold one, such as twitter-roberta-base-sentiment."""
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    BertForSequenceClassification(BertConfig(**sizes, vocab_size=30)).save_pretrained(tmp_path)
    edit_config(tmp_path, architectures=["BertForTokenClassification"])
    model = load_model(tmp_path)
    stored = load_file(tmp_path / "model.safetensors")
    assert stored.keys() - model.state_dict().keys() == {"bert.pooler.dense.weight", "bert.pooler.dense.bias"}


def test_an_encoder_without_a_named_class_may_hold_heads_of_its_pre_training(tmp_path: Path) -> None:
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    DebertaV2Model(DebertaV2Config(**sizes, vocab_size=30)).save_pretrained(tmp_path)
    edit_config(tmp_path, architectures=None)
    edit_weights(tmp_path, lambda tensors: tensors.update({"lm_predictions.lm_head.bias": torch.zeros(30)}))
    assert type(load_model(tmp_path)) is DebertaV2Model


def test_sentence_transformers_name_a_class_and_hold_its_encoder(tmp_path: Path) -> None:
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    BertModel(BertConfig(**sizes, vocab_size=30)).save_pretrained(tmp_path)
    edit_config(tmp_path, architectures=["BertForMaskedLM"])
    refuses(tmp_path, "missing", "cls.")
    (tmp_path / "modules.json").write_text("[]")
    assert type(load_model(tmp_path)) is BertModel
    BertForMaskedLM(BertConfig(**sizes, vocab_size=30)).save_pretrained(tmp_path)
    assert type(load_model(tmp_path)) is BertForMaskedLM


def test_sentence_transformers_keep_a_class_that_is_an_encoder_alone(tmp_path: Path) -> None:
    """As sentence-t5; the class without a head of T5 has a decoder too."""
    sizes = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2}
    T5EncoderModel(T5Config(**sizes, vocab_size=30)).save_pretrained(tmp_path)
    (tmp_path / "modules.json").write_text("[]")
    assert type(load_model(tmp_path)) is T5EncoderModel


def test_an_encoder_that_was_saved_without_its_pooler_is_told_from_weights_of_another_model(tmp_path: Path) -> None:
    """As snowflake-arctic-embed; the advice works."""
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    BertModel(BertConfig(**sizes, vocab_size=30), add_pooling_layer=False).save_pretrained(tmp_path)
    refuses(tmp_path, "saved without its pooler (pooler.dense.bias, pooler.dense.weight)", "BertModel.from_pretrained")
    BertModel.from_pretrained(tmp_path).save_pretrained(tmp_path)
    load_model(tmp_path)
    edit_weights(tmp_path, lambda tensors: [tensors.pop(name) for name in ("pooler.dense.bias", QUERY_OF_BERT)])
    refuses(tmp_path, "missing: 2", "do not belong together")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_dtype_is_the_one_on_disk_whatever_the_config_says(vit: Path, dtype: torch.dtype) -> None:
    edit_weights(vit, lambda tensors: tensors.update({name: tensor.to(dtype) for name, tensor in tensors.items()}))
    edit_config(vit, dtype="float32")
    assert {parameter.dtype for parameter in load_model(vit).parameters()} == {dtype}


def test_mixed_dtypes_give_one_that_holds_them_all(vit: Path) -> None:
    def mix(tensors: dict[str, Tensor]) -> None:
        tensors.update({name: tensor.bfloat16() for name, tensor in tensors.items()})
        tensors[QUERY] = tensors[QUERY].half() * 0.999

    edit_weights(vit, mix)
    model = load_model(vit)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    query = load_file(vit / "model.safetensors")[QUERY]
    assert torch.equal(model.vit.layers[0].attention.q_proj.weight, query.float())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_mixed_dtypes_give_that_of_the_config_if_weights_have_it(vit: Path, dtype: torch.dtype) -> None:
    edit_weights(vit, lambda t: t.update({n: v if n == QUERY else v.to(dtype) for n, v in t.items()}))
    edit_config(vit, dtype=str(dtype).removeprefix("torch."))
    assert load_model(vit).dtype == load_empty(vit).dtype == dtype


def test_the_dtype_of_a_tensor_that_the_model_lacks_does_not_count(vit: Path) -> None:
    edit_weights(vit, lambda tensors: tensors.update({name: values.half() for name, values in tensors.items()}))
    edit_weights(vit, lambda tensors: tensors.update({"vit.pooler.dense.bias": torch.zeros(3)}))
    for named in (None, "float32", "float16"):
        edit_config(vit, dtype=named)
        assert load_model(vit).dtype == load_empty(vit).dtype == torch.float16


def test_dtype_can_be_chosen(saved: Path) -> None:
    assert {parameter.dtype for parameter in load_model(saved, dtype=torch.float64).parameters()} == {torch.float64}


def test_without_architectures_the_base_model_of_the_config(vit: Path) -> None:
    ViTModel.from_pretrained(vit).save_pretrained(vit)
    edit_config(vit, architectures=None)
    assert type(load_model(vit)) is ViTModel


def test_without_architectures_a_head_needs_a_class(tmp_path: Path) -> None:
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    BertForMaskedLM(BertConfig(**sizes, vocab_size=30)).save_pretrained(tmp_path)
    edit_config(tmp_path, architectures=None)
    refuses(tmp_path, "config.json names no class; add architectures", '["BertForMaskedLM"]')


def test_outputs_are_read_by_name_whatever_the_config_says(vit: Path) -> None:
    edit_config(vit, return_dict=False)
    assert load_model(vit).config.return_dict


def test_shards_are_put_together(vit: Path, saved: Path) -> None:
    as_shards(vit)
    assert same_weights(load_model(vit), saved)


def test_files_may_be_links_as_in_the_cache_of_the_hub(vit: Path, saved: Path, tmp_path: Path) -> None:
    as_shards(vit)
    snapshot = tmp_path / "snapshots" / "main"
    snapshot.mkdir(parents=True)
    for file in vit.iterdir():
        (snapshot / file.name).symlink_to(os.path.relpath(file, snapshot))
    assert same_weights(load_model(snapshot), saved)


def test_loading_prints_nothing_and_restores_the_settings(saved: Path, capfd: pytest.CaptureFixture[str]) -> None:
    transformers_logging.set_verbosity(logging.INFO)
    transformers_logging.enable_progress_bar()
    try:
        capfd.readouterr()
        load_model(saved)
        assert capfd.readouterr() == ("", "")
        assert transformers_logging.get_verbosity() == logging.INFO
        assert transformers_logging.is_progress_bar_enabled()
        transformers_logging.disable_progress_bar()
        load_model(saved)
        assert not transformers_logging.is_progress_bar_enabled()
    finally:
        transformers_logging.set_verbosity_warning()
        transformers_logging.enable_progress_bar()


def test_a_failure_logs_nothing_and_restores_the_settings(vit: Path) -> None:
    edit_config(vit, num_labels=5)
    handler = BufferingHandler(capacity=1000)
    transformers_logging.add_handler(handler)
    try:
        refuses(vit, "wrong shape")
        assert handler.buffer == []
        ViTForImageClassification.from_pretrained(vit, ignore_mismatched_sizes=True)
        assert handler.buffer  # transformers does log it, with the settings as they were
    finally:
        transformers_logging.remove_handler(handler)
    assert transformers_logging.get_verbosity() == logging.WARNING
    assert transformers_logging.is_progress_bar_enabled()


def test_a_file_instead_of_a_directory(saved: Path) -> None:
    refuses(saved / "model.safetensors", "is a file", "give the directory")


def test_no_config(vit: Path) -> None:
    (vit / "config.json").unlink()
    refuses(vit, str(vit), "no config.json", "save_pretrained")


@pytest.mark.parametrize("text", ["{", "", "\x00", '{"model_type": "vit",}', "[" * 100_000])
def test_config_is_not_json(vit: Path, text: str) -> None:
    (vit / "config.json").write_text(text)
    refuses(vit, "config.json", "not readable as JSON")


def test_config_is_not_text(vit: Path) -> None:
    (vit / "config.json").write_bytes(b"\xff\xfe{}")
    refuses(vit, "config.json", "not readable as JSON")


@pytest.mark.parametrize("text", ["{}", "[]", "3", "null", '{"model_type": 3}', '{"model_type": null}'])
def test_config_without_model_type(vit: Path, text: str) -> None:
    (vit / "config.json").write_text(text)
    refuses(vit, "config.json", "no model_type")


def test_model_type_that_transformers_does_not_know(vit: Path) -> None:
    edit_config(vit, model_type="vjt")
    refuses(vit, "config.json", "no model_type 'vjt'")


def test_code_in_the_checkpoint_is_not_run(vit: Path, tmp_path: Path) -> None:
    (vit / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    edit_config(vit, model_type="evil", auto_map={"AutoConfig": "evil.Config", "AutoModel": "evil.Model"})
    refuses(vit, "no model_type 'evil'")
    edit_config(vit, model_type="vit")
    load_model(vit)  # as transformers' own ViT
    assert not (tmp_path / "ran").exists()


def test_config_with_an_impossible_value(vit: Path) -> None:
    edit_config(vit, hidden_size="sixteen")
    refuses(vit, "config.json", "not a valid vit config")


def test_config_whose_model_cannot_be_built(vit: Path) -> None:
    edit_config(vit, hidden_act="nonsense")
    refuses(vit, "transformers cannot load it", "nonsense")


@pytest.mark.parametrize("name", ["ViTForNothing", "pipeline", "ViTConfig", "os"])
def test_unknown_architecture(vit: Path, name: str) -> None:
    edit_config(vit, architectures=[name])
    refuses(vit, "config.json", repr(name), "not a model of transformers")


def test_a_class_whose_code_is_beside_the_checkpoint(vit: Path) -> None:
    edit_config(vit, architectures=["JinaViT"], auto_map={"AutoModel": "jinaai/jina--modeling_jina.JinaViT"})
    refuses(vit, "config.json: architecture 'JinaViT' is code beside the checkpoint (auto_map), which is never run")


def test_architecture_of_another_family(vit: Path) -> None:
    edit_config(vit, architectures=["BertModel"])
    refuses(vit, "config.json", "BertModel is not of model_type vit")


def test_weights_that_need_another_tool(vit: Path) -> None:
    edit_config(vit, quantization_config={"quant_method": "bitsandbytes"})
    refuses(vit, "quantized", "dequantize")
    edit_config(vit, quantization_config=None, transformers_weights="other.safetensors")
    refuses(vit, "transformers_weights", "remove it")
    edit_config(vit, transformers_weights=None)
    (vit / "adapter_config.json").write_text("{}")
    refuses(vit, "adapter", "merge it")
    (vit / "adapter_config.json").unlink()
    (vit / "shard-00000-model-00001-of-00001.safetensors").touch()
    refuses(vit, "distributed checkpoint", "consolidate")


def test_hashes_are_those_of_the_files(vit: Path) -> None:
    as_shards(vit)
    (vit / "README.md").write_text("no part of it")
    hashes = file_hashes(vit)
    assert list(hashes) == ["config.json", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    assert hashes == {name: hashlib.sha256((vit / name).read_bytes()).hexdigest() for name in hashes}


def test_hashes_of_a_pickle(vit: Path) -> None:
    file = as_pickle(vit)
    assert file_hashes(vit)[file.name] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert weight_files(vit, "allow") == [file]


def test_companions_are_copied_and_nothing_else(vit: Path, tmp_path: Path) -> None:
    wanted = {
        *("preprocessor_config.json", "processor_config.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt"),
        *("vocab.json", "merges.txt", "special_tokens_map.json", "chat_template.jinja", "generation_config.json"),
        *("spiece.model", "cl100k.tiktoken", "added_tokens.json"),
    }
    others = {
        "README.md",
        "modeling.py",
        "pytorch_model.bin",
        "optimizer.pt",
        "trainer_state.json",
        ".env",
        "vocab.bin",
    }
    for name in wanted | others:
        (vit / name).write_text(name)
    (vit / "tokenizer.model").mkdir()
    target = tmp_path / "target"
    target.mkdir()
    assert copy_companions(vit, target) == sorted(wanted)
    assert {file.name: file.read_text() for file in target.iterdir()} == {name: name for name in wanted}


def test_a_linked_companion_is_copied_as_a_file(tmp_path: Path) -> None:
    (tmp_path / "blob").write_text("{}")
    for name in ("source", "target"):
        (tmp_path / name).mkdir()
    (tmp_path / "source" / "tokenizer.json").symlink_to("../blob")
    copy_companions(tmp_path / "source", tmp_path / "target")
    assert not (tmp_path / "target" / "tokenizer.json").is_symlink()
    assert (tmp_path / "target" / "tokenizer.json").read_text() == "{}"


@pytest.mark.parametrize("read", [load_model, local_directory])
def test_an_empty_name_is_not_the_current_folder(
    read: Callable[[str], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"^the name of a model is empty"):
        read("")
