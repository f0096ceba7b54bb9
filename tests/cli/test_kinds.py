"""Every kind of model is fused, measured and reported by the command line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from cases import CASES, T5
from cli_inputs import Run, one_line
from kinds import NAMES, SENTENCES, THINGS, bert, classes, clip, jsonl, text, tokenizer
from kinds import WORDS as VOCABULARY
from PIL import Image
from transformers import (
    BertForMaskedLM,
    BertForPreTraining,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertForTokenClassification,
    BertModel,
    T5Config,
    T5ForConditionalGeneration,
)

from transfuse.cli.jobs.quality import unmeasured
from transfuse.config.settings import Settings

ROWS = [{"text": text(*sentence), "score": row % 5 / 2} for row, sentence in enumerate(SENTENCES)]
SETS = [{"text": text(*sentence), "labels": list(sentence[:2])} for sentence in SENTENCES]

WORDS = [
    {"tokens": [name, "sees", thing, "in", place], "ner_tags": ["B-PER", "O", "O", "O", "B-LOC"]}
    for name, thing, place in SENTENCES
]
QUESTIONS = [
    {
        "question": "what",
        "context": text(*sentence),
        "answers": {"text": [sentence[1]], "answer_start": [text(*sentence).index(sentence[1])]},
    }
    for sentence in SENTENCES
]
TRANSLATIONS = [{"translation": {"en": text(*sentence), "de": sentence[1]}} for sentence in SENTENCES]
IMAGES = [{"image": f"{row}.png", "text": text(*sentence)} for row, sentence in enumerate(SENTENCES[:12])]


def regression(folder: Path, seed: int) -> Path:
    return bert(folder, BertForSequenceClassification, seed, num_labels=1)


def multi_label(folder: Path, seed: int) -> Path:
    kind = {"problem_type": "multi_label_classification"}
    return bert(folder, BertForSequenceClassification, seed, **kind, **classes((*NAMES, *THINGS)))


def tagger(folder: Path, seed: int) -> Path:
    return bert(folder, BertForTokenClassification, seed, **classes(("O", "B-PER", "B-LOC")))


def reader(folder: Path, seed: int) -> Path:
    return bert(folder, BertForQuestionAnswering, seed)


def translator(folder: Path, seed: int) -> Path:
    torch.manual_seed(seed)
    T5ForConditionalGeneration(T5Config(**{**T5, "vocab_size": len(VOCABULARY)})).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


KINDS: dict[str, tuple[Callable[[Path, int], Path], list[dict[str, Any]], str, str]] = {
    "regression": (regression, ROWS, "pearson", "a Pearson correlation of"),
    "multi-label": (multi_label, SETS, "micro_f1", "a micro F1 of"),
    "token classification": (tagger, WORDS, "entity_f1", "over entities"),
    "question answering": (reader, QUESTIONS, "answer_f1", "over answers"),
    "sequence to sequence": (translator, TRANSLATIONS, "perplexity", "a perplexity of"),
    "images and texts": (clip, IMAGES, "recall_1", "a recall@1 of"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_fused_measured_and_reported(tmp_path: Path, run: Run, kind: str) -> None:
    build, rows, measure, words = KINDS[kind]
    a, b = (build(tmp_path / str(seed), seed) for seed in (1, 2))
    data, out = jsonl(tmp_path / "data.jsonl", rows), tmp_path / "out"
    for row, place in enumerate(each["image"] for each in rows if "image" in each):
        Image.new("RGB", (8, 8), (20 * row, 255 - 20 * row, 9 * row)).save(tmp_path / place)
    ran = run("fuse", a, b, "-o", out, "--data", data, "--align", "exact", "--merge", "mean", "--report", "--json")
    assert (ran.status, ran.err) == (0, "")
    quality = json.loads(ran.out)["quality"]
    assert words in quality["verdict"]
    report = json.loads((out / "report.json").read_text())
    measured = json.loads(run("eval", out, a, b, "--data", data, "--json").out)
    assert quality["models"]["fusion"][measure] == pytest.approx(measured[0][measure], abs=1e-4)
    (fused,) = (row for row in report["measured"]["rows"] if row["role"] == "fusion")
    assert fused["metrics"]["loss"] == pytest.approx(measured[0]["loss"], rel=1e-3)
    assert words in (out / "report.html").read_text()
    line = json.loads(run("path", a, b, "--data", data, "--points", 3, "--json").out)
    assert line["points"][0][measure] == pytest.approx(measured[1][measure], abs=1e-4)
    assert [other["path"] for other in measured[0]["against"]] == [str(a), str(b)]


def test_models_without_a_head_are_compared_with_their_parents(tmp_path: Path, run: Run) -> None:
    a, b = (bert(tmp_path / str(seed), BertModel, seed) for seed in (1, 2))
    data, out = jsonl(tmp_path / "data.jsonl", [{"text": row["text"]} for row in ROWS]), tmp_path / "out"
    ran = run("fuse", a, b, "-o", out, "--data", data, "--merge", "mean", "--report", "--json")
    assert (ran.status, ran.err) == (0, "")
    quality = json.loads(ran.out)["quality"]
    assert quality["verdict"].startswith("Without labels, the fused model reaches a mean cosine of")
    fused = quality["models"]["fusion"]
    assert fused["distance"] == pytest.approx(1 - fused["cosine"])
    line = json.loads(run("path", a, b, "--data", data, "--points", 3, "--json").out)
    assert line["points"][1]["cosine"] == pytest.approx(fused["cosine"], abs=1e-4)
    compared = json.loads(run("eval", out, a, b, "--data", data, "--json").out)[0]
    assert (compared["path"], compared["data"]) == (str(out), str(data))
    assert [other["path"] for other in compared["agreement_with"]] == [str(a), str(b)]
    assert all(0 < other["similarity"] < 1 for other in compared["agreement_with"])
    shown = run("eval", out, a, b, "--data", data).out
    assert "similarity" in shown
    assert f"measured on {data}" in shown
    assert "There are no labels" in (out / "report.html").read_text()


def test_classes_of_a_regression(tmp_path: Path, run: Run) -> None:
    ran = run("eval", regression(tmp_path / "a", 1), "--data", jsonl(tmp_path / "data.jsonl", ROWS), "--classes")
    assert ran.status == 0
    assert "--classes: shows nothing, because no classes were measured on labels" in ran.err


def test_fusing_needs_no_labels_that_can_be_read(tmp_path: Path, run: Run) -> None:
    a, b = (multi_label(tmp_path / str(seed), seed) for seed in (1, 2))
    rows = [{"text": row["text"], **dict.fromkeys((*NAMES, *THINGS), -1)} for row in ROWS]
    ran = run("fuse", a, b, "-o", tmp_path / "out", "--data", jsonl(tmp_path / "data.jsonl", rows), "--merge", "mean")
    assert ran.status == 0, ran
    assert "has -1 in column 'anna', but each label must be 0 or 1" in " ".join(ran.out.split())


def test_no_fusion_ends_without_a_word_on_its_quality(tmp_path: Path, run: Run) -> None:
    a, b = (regression(tmp_path / str(seed), seed) for seed in (1, 2))
    ran = run("fuse", a, b, "-o", tmp_path / "bare")
    command = f"transfuse eval {tmp_path / 'bare'} {a} {b} --data DATA"
    assert ran.out.splitlines()[-1] == f"Not measured: there was no data. Measure it with: {command}"
    plain = jsonl(tmp_path / "plain.jsonl", [{"text": row["text"]} for row in ROWS])
    ran = run("fuse", a, b, "-o", tmp_path / "out", "--data", plain, "--merge", "mean")
    assert ran.status == 0, ran
    last = ran.out.splitlines()[-1]
    assert last.startswith("Without labels, the fused model reaches a mean squared difference of")
    assert last.endswith(f"Measured on 24 samples of {plain}, the samples that were also used to make it.")


def test_the_command_that_measures_reads_the_same_data() -> None:
    options = Settings(lines=True, block_size=8, allow_pickle=True, spec="own.py")
    for data, reading in (("d.txt", "d.txt --lines --block-size 8"), (None, "DATA"), ("generated", "DATA")):
        command = f"transfuse eval out a b --data {reading} --allow-pickle --spec own.py"
        found = unmeasured(["out", "a", "b"], data, options, "why")
        assert found == f"Not measured: why. Measure it with: {command}"


def test_data_that_cannot_measure_are_not_named_again(tmp_path: Path, run: Run) -> None:
    a = bert(tmp_path / "a", BertForSequenceClassification, 1, num_labels=2)
    b = bert(tmp_path / "b", BertForSequenceClassification, 2, num_labels=3)
    data = jsonl(tmp_path / "data.jsonl", [{"text": row["text"], "label": 2} for row in ROWS])
    ran = run("fuse", a, b, "-o", tmp_path / "out", "--head", "anchor", "--data", data, "--merge", "mean")
    assert "Not measured" in ran.out
    assert "label 2 in row 0" in ran.out
    assert ran.out.rstrip().endswith(f"transfuse eval {tmp_path / 'out'} {a} {b} --data DATA")


@pytest.mark.parametrize(
    ("name", "predicts"),
    [
        ("ViTMAEForPreTraining", "pixels, which no data can measure"),
        ("ElectraForPreTraining", "what no data can measure or fit"),
    ],
)
def test_what_no_metric_compares_is_not_measured(name: str, predicts: str, tmp_path: Path, run: Run) -> None:
    folders = [tmp_path / str(seed) for seed in (1, 2)]
    case = next(case for case in CASES if case.name == name)
    for seed, folder in enumerate(folders):
        case.build(seed).float().save_pretrained(folder)
    ran = run("fuse", *folders, "-o", tmp_path / "out")
    assert ran.out.splitlines()[-1] == f"Not measured: {name} predicts {predicts}."
    asked = run("fuse", *folders, "-o", tmp_path / "other", "--data", folders[0])
    assert (asked.status, asked.err.count("\n")) == (2, 1)
    assert "only fusing by weights" in asked.err
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_comes_nearer_to_its_parents(tmp_path: Path, run: Run, kind: str) -> None:
    build, rows, _, _ = KINDS[kind]
    a, b = (build(tmp_path / str(seed), seed) for seed in (1, 2))
    data, out = jsonl(tmp_path / "data.jsonl", rows), tmp_path / "out"
    for row, place in enumerate(each["image"] for each in rows if "image" in each):
        Image.new("RGB", (8, 8), (20 * row, 255 - 20 * row, 9 * row)).save(tmp_path / place)
    ran = run("fuse", a, b, "-o", out, "--data", data, "--merge", "learned", "--steps", 25, "--json")
    assert (ran.status, ran.err) == (0, "")
    history = json.loads(ran.out)["learned_weights"]
    assert min(history["excess"]) < history["excess"][0]
    assert history["unit"] == ("of the parents' loss" if kind in ("regression", "images and texts") else "nats")


def test_weights_by_confidence_of_numbers_are_even_and_say_so(tmp_path: Path, run: Run) -> None:
    build, rows, _, _ = KINDS["regression"]
    a, b = (build(tmp_path / str(seed), seed) for seed in (1, 2))
    data = jsonl(tmp_path / "data.jsonl", rows)
    shared = ("fuse", a, b, "--data", data, "--merge", "least-squares")
    ran = run(*shared, "-o", tmp_path / "out", "--teacher-weighting", "confidence")
    assert ran.status == 0
    assert ran.err.splitlines() == [
        "transfuse: --teacher-weighting confidence: the models predict numbers or embeddings, which have no confidence;"
        " their weights are the same for all samples"
    ]


def test_numbers_are_learned_from_labels(tmp_path: Path, run: Run) -> None:
    a, b = (regression(tmp_path / str(seed), seed) for seed in (1, 2))
    rows = [{"text": text(*sentence), "score": 3.0 + NAMES.index(sentence[0])} for sentence in SENTENCES]
    data = jsonl(tmp_path / "data.jsonl", rows)
    learned = ("--merge", "learned", "--steps", 50, "--objective", "labels")
    ran = run("fuse", a, b, "-o", tmp_path / "out", "--data", data, *learned, "--json")
    assert (ran.status, ran.err) == (0, "")
    models = json.loads(ran.out)["quality"]["models"]
    assert models["fusion"]["loss"] < 0.5 * min(entry["loss"] for name, entry in models.items() if name != "fusion")


LABELED = [kind for kind in KINDS if kind != "images and texts"]  # pairs have no labels


@pytest.mark.parametrize("kind", LABELED)
def test_every_kind_is_fine_tuned_with_labels(tmp_path: Path, run: Run, kind: str) -> None:
    build, rows, measure, words = KINDS[kind]
    model, data, out = build(tmp_path / "model", 1), jsonl(tmp_path / "data.jsonl", rows), tmp_path / "out"
    quick = ("--epochs", 12, "--learning-rate", 1e-2, "--batch-size", 8)
    ran = run("finetune", model, "--data", data, "-o", out, *quick, "--json")
    assert (ran.status, ran.err) == (0, "")
    quality = json.loads(ran.out)["quality"]
    assert words in quality["verdict"]
    assert quality["verdict"].endswith(f"of {data}, the data of the training itself.")
    after, before = (quality["models"][str(path)] for path in (out, model))
    assert after["loss"] < 0.7 * before["loss"]
    measured = json.loads(run("eval", out, "--data", data, "--json").out)
    assert measured[0][measure] == pytest.approx(after[measure], abs=1e-6)


@pytest.mark.parametrize("kind", LABELED)
def test_every_kind_learns_from_teachers(tmp_path: Path, run: Run, kind: str) -> None:
    build, rows, _, _ = KINDS[kind]
    model, *teachers = (build(tmp_path / str(seed), seed) for seed in range(3))
    data, out = jsonl(tmp_path / "data.jsonl", rows), tmp_path / "out"
    given = [argument for teacher in teachers for argument in ("--teacher", teacher)]
    quick = ("--epochs", 6, "--learning-rate", 1e-2, "--batch-size", 8, "--distill", 1)
    ran = run("finetune", model, "--data", data, "-o", out, *given, *quick, "--json")
    assert (ran.status, ran.err) == (0, "")
    losses = [loss for _, loss in json.loads(ran.out)["losses"]]
    assert losses[-1] < losses[0]


def test_options_without_a_meaning_for_numbers_are_refused(tmp_path: Path, run: Run) -> None:
    model, teacher = (regression(tmp_path / str(seed), seed) for seed in (1, 2))
    data = jsonl(tmp_path / "data.jsonl", ROWS)
    shared = ("finetune", model, "--data", data, "-o", tmp_path / "out", "--teacher", teacher)
    one_line(run(*shared, "--temperature", 2), ["temperature", "numbers, not probabilities"])
    one_line(run(*shared, "--label-smoothing", 0.1), ["--label-smoothing", "one class of several"])
    one_line(run("finetune", clip(tmp_path / "c", 1), "--data", data, "-o", tmp_path / "out"), ["CLIPModel", "labels"])
    sets = multi_label(tmp_path / "sets", 1)
    one_line(run(*shared, "--teacher", sets), ["num_labels"])


def test_a_bert_as_it_was_pre_trained_predicts_masked_tokens(tmp_path: Path, run: Run) -> None:
    """Its head of next sentences is aligned and merged, and changes nothing that is measured."""
    a, b = (bert(tmp_path / name, BertForPreTraining, seed) for seed, name in enumerate("ab", 1))
    masked = bert(tmp_path / "masked", BertForMaskedLM, 3)
    like = BertForMaskedLM.from_pretrained(a)
    like.save_pretrained(masked)
    data = jsonl(tmp_path / "data.jsonl", [{"text": text(*sentence)} for sentence in SENTENCES])
    losses = [json.loads(run("eval", folder, "--data", data, "--json").out)[0]["loss"] for folder in (a, masked)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    for options in (("--merge", "least-squares"), ("--merge", "learned", "--steps", 2)):
        out = tmp_path / str(options[1])
        assert run("fuse", a, b, "-o", out, "--data", data, *options).status == 0
        fused = BertForPreTraining.from_pretrained(out)
        assert all(values.isfinite().all() for values in fused.state_dict().values())
    tuned = run("finetune", a, "-o", tmp_path / "tuned", "--data", data, "--epochs", 1)
    assert tuned.status == 0, tuned.err
