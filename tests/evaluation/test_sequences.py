"""Sequence-to-sequence models: sources and targets are found, and the loss is that of transformers."""

from pathlib import Path
from typing import Any

import pytest
import torch
from cases import CLIP_VISION, LLAMA, T5
from datasets import Dataset, Features, Translation, Value
from kinds import SENTENCES, WORDS, text, tokenizer
from transformers import LlavaConfig, LlavaForConditionalGeneration, T5Config, T5ForConditionalGeneration

import transfuse
from transfuse.base.batch import group_by_length
from transfuse.data.load import load_samples
from transfuse.data.text.sequences import sequence_preparer, with_sources, with_targets
from transfuse.errors import DataError, NoLabelsError, SpecError

SOURCES = [text(*sentence) + (" in" * (row % 4)) for row, sentence in enumerate(SENTENCES)]
TARGETS = [" ".join(sentence[: 1 + row % 3]) for row, sentence in enumerate(SENTENCES)]
FIRST, REST = zip(*(source.split(" ", 1) for source in SOURCES), strict=True)
LAYOUTS: dict[str, dict[str, list[Any]]] = {
    "source, target": {"source": SOURCES, "target": TARGETS},
    "summary": {"document": SOURCES, "summary": TARGETS, "id": list(map(str, range(len(SOURCES))))},
    "input, output": {"input": SOURCES, "output": TARGETS},
    "instructions": {
        "instruction": [*SOURCES[:12], *FIRST[12:]],
        "input": [*[""] * 12, *REST[12:]],
        "output": TARGETS,
        "summary": SOURCES,
    },
    "questions": {"context": REST, "question": FIRST, "answer": TARGETS},
    "prompts": {"prompt": SOURCES, "completion": TARGETS},
    "dialogues": {"dialogue": SOURCES, "summary": TARGETS, "source": TARGETS[::-1]},
    "articles": {"article": SOURCES, "highlights": TARGETS, "source": TARGETS[::-1]},
    "translation": {"translation": [{"en": s, "de": t} for s, t in zip(SOURCES, TARGETS, strict=True)]},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("t5")
    torch.manual_seed(0)
    T5ForConditionalGeneration(T5Config(**{**T5, "vocab_size": len(WORDS)})).save_pretrained(target)
    tokenizer().save_pretrained(target)
    return target


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_loss_is_that_of_transformers(folder: Path, layout: str) -> None:
    entry = transfuse.evaluate(folder, Dataset.from_dict(LAYOUTS[layout]), batch_size=7).records()[0]
    words = tokenizer()
    inputs = words(SOURCES, return_tensors="pt", padding=True)
    targets = words(TARGETS, return_tensors="pt", padding=True)
    labels = targets["input_ids"].masked_fill(targets["attention_mask"] == 0, -100)
    with torch.no_grad():
        model = T5ForConditionalGeneration.from_pretrained(folder)
        expected = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], labels=labels)
    assert entry["loss"] == pytest.approx(float(expected.loss), rel=1e-4)
    right = (expected.logits.argmax(-1) == labels)[labels != -100]
    assert entry["accuracy"] == pytest.approx(float(right.double().mean()))
    assert entry["samples"] == int((labels != -100).sum())


def test_translations_are_read_and_not_the_texts_beside_them() -> None:
    rows = {"id": list(map(str, range(24))), **LAYOUTS["translation"]}
    languages = Features({"id": Value("string"), "translation": Translation(languages=["en", "de"])})
    for data in (Dataset.from_dict(rows), Dataset.from_dict(rows, features=languages)):  # stored as en, de and de, en
        samples = load_samples(data)
        without = with_sources(samples)
        assert without.inputs([3]) == [{"source": SOURCES[3], "names": None}]
        (row,) = with_targets(with_targets(without)).inputs([3])
        assert (row["source"], row["target"]) == (SOURCES[3], TARGETS[3])
    rows["translation"] = [{"en": "anna", "de": None}, *LAYOUTS["translation"]["translation"][1:]]
    with pytest.raises(DataError, match=r"1 of 24 samples has no translation\.de, the first in row 0"):
        with_targets(load_samples(Dataset.from_dict(rows)))


def test_a_fusion_reads_the_sources_that_eval_reads(folder: Path) -> None:
    words, config = tokenizer(), T5Config.from_pretrained(folder)
    samples = load_samples(Dataset.from_dict({**LAYOUTS["instructions"]}))
    read = [find(samples) for find in (with_sources, with_targets)]
    batches = [sequence_preparer(words, config)(each.inputs(range(len(each)))) for each in read]
    assert batches[0]["input_ids"].tolist() == batches[1]["input_ids"].tolist()
    assert words.decode(batches[0]["input_ids"][12], skip_special_tokens=True) == SOURCES[12]
    (row,) = with_targets(with_sources(samples)).inputs([12])
    assert row["target"] == TARGETS[12]


@pytest.mark.parametrize("options", [{"merge": "least-squares"}, {"align": "flow"}])
def test_the_decoder_reads_the_targets_if_nothing_is_trained(folder: Path, options: dict[str, Any]) -> None:
    data = Dataset.from_dict(LAYOUTS["source, target"])
    batches = transfuse.match([folder, folder], data, device="cpu", **options).context.batches
    read = {tuple(row[1:].tolist()) for batch in batches for row in batch["decoder_input_ids"]}
    targets = tokenizer()(TARGETS, return_tensors="pt", padding=True)["input_ids"]
    assert read == {tuple(row[:-1].tolist()) for row in targets}


def test_rows_without_a_source_are_left_out() -> None:
    rows = {"source": [None, " ", *SOURCES[2:]], "target": TARGETS}
    labeled = with_targets(load_samples(rows))
    assert [row["source"] for row in labeled.inputs(range(len(labeled)))] == SOURCES[2:]
    for samples in (labeled, with_sources(load_samples(rows)), with_sources(load_samples(rows | {"id": TARGETS}))):
        assert samples.notes == (f"dataset in memory: 2 of {len(SOURCES)} texts are empty and left out",)


def test_a_column_of_the_question_may_be_the_target() -> None:
    samples = load_samples(Dataset.from_dict(LAYOUTS["instructions"]), label="input", text="instruction")
    assert with_targets(samples).parts == {"source": "instruction", "target": "input"}
    samples = load_samples(Dataset.from_dict(LAYOUTS["questions"]), label="question")
    with pytest.raises(NoLabelsError, match="no column of sources besides 'question'"):
        with_targets(samples)


def test_columns_that_are_named(folder: Path) -> None:
    rows = Dataset.from_dict({"question": SOURCES, "hint": SOURCES[::-1], "answer": TARGETS})
    found = transfuse.evaluate(folder, load_samples(rows, label="answer", text="question"))
    usual = transfuse.evaluate(folder, Dataset.from_dict(LAYOUTS["source, target"]))
    assert found.records()[0]["loss"] == pytest.approx(usual.records()[0]["loss"], rel=1e-5)
    with pytest.raises(DataError, match="no labels that"):
        transfuse.evaluate(folder, Dataset.from_dict({"text": SOURCES}))


def test_targets_have_a_length_of_their_own() -> None:
    """They are not cut to the length of a source that happens to be as long with its padding."""
    mask = torch.tensor([[1, 1, 1], [1, 0, 0]])
    batch = {"input_ids": mask, "attention_mask": mask}
    targets = {"decoder_input_ids": mask + 4, "decoder_attention_mask": mask, "labels": mask + 5}
    parts = dict(zip((1, 0), (part for _, part in group_by_length(batch | targets, 3)), strict=True))
    assert parts[1]["input_ids"].shape == (1, 1)
    assert parts[1]["labels"].shape == (1, 3)
    assert [part["labels"].shape[1] for _, part in group_by_length(batch | {"labels": mask}, 3)] == [1, 3]


def test_a_decoder_that_reads_images_too_reads_no_sources(tmp_path: Path) -> None:
    """It has no encoder, although its name ends as that of T5 does."""
    sizes = {"text_config": {**LLAMA, "model_type": "llama"}, "vision_config": CLIP_VISION, "vision_feature_layer": -1}
    LlavaForConditionalGeneration(LlavaConfig(**sizes)).save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    data = Dataset.from_dict({"source": TARGETS, "target": TARGETS})
    for use in (transfuse.evaluate, transfuse.finetune):
        with pytest.raises(SpecError, match=r"LlavaForConditionalGeneration: is no encoder-decoder, .* language model"):
            use(tmp_path, data)
