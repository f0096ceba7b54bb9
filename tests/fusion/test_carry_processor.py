"""A fine-tune that is carried keeps its chat template, its generation settings and its pooling."""

import json
from functools import partial
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard
from languages import llama, saved
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    BertModel,
    GenerationConfig,
    PreTrainedModel,
)

import transfuse
from transfuse.checkpoint.cards.card import task_of
from transfuse.checkpoint.reading.load import load_empty
from transfuse.fusion.carrying.match import match_for_carry

TEMPLATE = "<u>{{ messages[0]['content'] }}"
MODULES = [
    {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
    {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
]


def changed(model: PreTrainedModel) -> PreTrainedModel:
    torch.manual_seed(3)
    with torch.no_grad():
        for values in model.parameters():
            values.add_(0.1 * values.std(correction=0) * torch.randn_like(values))
    return model


@pytest.fixture
def chat(tmp_path: Path) -> list[Path]:
    """A base, a chat model that was tuned from it, and a new base. The bases have no chat template."""
    base, new = (saved(tmp_path / name, llama, seed) for name, seed in (("base", 1), ("new", 2)))
    tuned = changed(AutoModelForCausalLM.from_pretrained(base))
    tuned.generation_config = GenerationConfig(eos_token_id=[5, 6], temperature=0.6, do_sample=True)
    tuned.config.eos_token_id = [5, 6]
    tuned.save_pretrained(tmp_path / "tuned")
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.chat_template = TEMPLATE
    tokenizer.eos_token = "a"  # as chat models end a turn
    tokenizer.save_pretrained(tmp_path / "tuned")
    for folder in (base, new):
        (folder / "chat_template.jinja").unlink()
        (folder / "NOTICE").write_text(folder.name)
    return [base, tmp_path / "tuned", new]


def test_a_chat_model(chat: list[Path], tmp_path: Path) -> None:
    (chat[1] / "notes.md").write_text("mine")
    carried = transfuse.carry(*chat)
    out = carried.save(tmp_path / "out")
    tokenizer = AutoTokenizer.from_pretrained(out)
    assert (tokenizer.chat_template, tokenizer.eos_token) == (TEMPLATE, "a")
    settings = json.loads((out / "generation_config.json").read_text())
    assert (settings["eos_token_id"], settings["temperature"]) == ([5, 6], 0.6)
    assert load_empty(out).config.eos_token_id == [5, 6]
    assert (out / "NOTICE").read_text() == "new"
    assert "chat_template.jinja" in carried.record["copied"]
    assert carried.record["left_out"] == ["notes.md"]
    assert carried.prepared_by == str(chat[1])


def test_its_template_writes_the_samples(chat: list[Path]) -> None:
    conversations = [{"messages": [{"role": "user", "content": f"number {row}"}]} for row in range(9)]
    matched = match_for_carry(*chat, conversations, effort="quick")
    written = AutoTokenizer.from_pretrained(chat[1]).decode(matched.context.batches[0]["input_ids"][0])
    assert written.startswith("<u>number")


def test_a_loaded_fine_tune_has_settings_but_no_tokenizer(chat: list[Path], tmp_path: Path) -> None:
    loaded = AutoModelForCausalLM.from_pretrained(chat[1])
    out = transfuse.carry(chat[0], loaded, chat[2]).save(tmp_path / "out")
    assert AutoTokenizer.from_pretrained(out).chat_template is None
    assert json.loads((out / "generation_config.json").read_text())["eos_token_id"] == [5, 6]


def test_a_larger_new_base_gets_its_settings(chat: list[Path], tmp_path: Path) -> None:
    larger = saved(tmp_path / "larger", partial(llama, intermediate_size=50, num_hidden_layers=3), 3)
    settings = transfuse.carry(*chat[:2], larger).model.generation_config
    assert (settings.eos_token_id, settings.temperature, settings.max_new_tokens) == ([5, 6], 0.6, None)


def test_a_sentence_encoder(tmp_path: Path) -> None:
    config = BertConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, vocab_size=9)
    for seed, name in enumerate(("base", "new")):
        torch.manual_seed(seed)
        BertModel(config).save_pretrained(tmp_path / name)
    changed(BertModel.from_pretrained(tmp_path / "base")).save_pretrained(tmp_path / "tuned")
    (tmp_path / "tuned" / "modules.json").write_text(json.dumps(MODULES))
    (tmp_path / "tuned" / "1_Pooling").mkdir()
    (tmp_path / "tuned" / "1_Pooling" / "config.json").write_text('{"pooling_mode_mean_tokens": true}')
    carried = transfuse.carry(*(tmp_path / name for name in ("base", "tuned", "new")))
    out = carried.save(tmp_path / "out")
    assert carried.record["sentence_transformers"] == ["1_Pooling/config.json", "modules.json"]
    assert (out / "1_Pooling" / "config.json").is_file()


def test_the_card_has_its_task(tmp_path: Path) -> None:
    config = BertConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, vocab_size=9)
    for seed, name in enumerate(("base", "new")):
        torch.manual_seed(seed)
        BertForMaskedLM(config).save_pretrained(tmp_path / name)
    (tmp_path / "new" / "README.md").write_text("---\nlicense: mit\npipeline_tag: fill-mask\n---\n")
    tuned = BertForSequenceClassification.from_pretrained(tmp_path / "base")
    changed(tuned).save_pretrained(tmp_path / "tuned")
    carried = transfuse.carry(*(tmp_path / name for name in ("base", "tuned", "new")))
    header = ModelCard.load(carried.save(tmp_path / "out") / "README.md").data
    assert (header.pipeline_tag, header.license) == ("text-classification", "mit")
    assert task_of(carried.record) == "text-classification"
