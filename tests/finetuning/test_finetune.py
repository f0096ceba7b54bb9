"""Fine-tuning learns, listens to teachers, goes on where it stopped, and changes no input."""

import json
import shutil

import pytest
import torch
from datasets import ClassLabel, Dataset, Features, Image
from numpy import random, uint8
from PIL import Image as Picture
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertTokenizerFast,
    GPT2Config,
    GPT2LMHeadModel,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessorPil,
)

from transfuse import finetune
from transfuse.data.load import load_samples
from transfuse.data.tasks import task
from transfuse.distillation.teacher_weighting import TEACHER_WEIGHTING, ensemble_predictions
from transfuse.errors import CheckpointError, ConfigError, TransfuseError
from transfuse.evaluation.evaluate import evaluate
from transfuse.finetuning.trainer import TrainingDataset
from transfuse.network.outputs import predict

PROCESSOR = ViTImageProcessorPil(size={"height": 8, "width": 8}, image_mean=[0.5], image_std=[0.5])
QUICK = {"epochs": 6, "learning_rate": 3e-3, "batch_size": 16, "device": "cpu"}


def vit(seed: int, **changes: object) -> ViTForImageClassification:
    torch.manual_seed(seed)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    shape = {"image_size": 8, "patch_size": 4, "num_channels": 1, "num_labels": 2}
    return ViTForImageClassification(ViTConfig(**{**sizes, **shape, **changes})).eval()


def pictures(count: int = 64) -> Dataset:
    """Dark or light noise, and which."""
    generator = random.default_rng(0)
    pixels = [generator.integers(100 * (row % 2), 100 * (row % 2) + 100, (8, 8)) for row in range(count)]
    columns = {"image": [Picture.fromarray(each.astype(uint8)) for each in pixels], "label": [0, 1] * (count // 2)}
    return Dataset.from_dict(columns, Features({"image": Image(), "label": ClassLabel(names=["0", "1"])}))


def batches(data: Dataset, model: ViTForImageClassification) -> list:
    samples = load_samples(data)
    return list(samples.batches(task("ViTForImageClassification").preparer(PROCESSOR, model.config), 16))


def test_it_learns_and_leaves_its_input_alone():
    model, data = vit(0), pictures()
    given = {name: values.clone() for name, values in model.state_dict().items()}
    before = evaluate(model, batches(data, model))
    tuned = finetune(model, data, None, processor=PROCESSOR, **QUICK)
    after = evaluate(tuned.model, batches(data, model))
    assert after.loss < 0.5 * before.loss
    assert all(torch.equal(values, given[name]) for name, values in model.state_dict().items())
    assert tuned.record["steps"] == 24
    assert tuned.record["samples"] == 64


def test_frozen_parameters_keep_their_values_and_nothing_to_train_is_refused():
    model, data = vit(0).requires_grad_(False), pictures()
    with pytest.raises(ConfigError, match="model: all its parameters are frozen"):
        finetune(model, data, processor=PROCESSOR, **QUICK)
    model.classifier.requires_grad_(True)
    tuned = finetune(model, data, processor=PROCESSOR, **QUICK).model.state_dict()
    changed = {name for name, values in model.state_dict().items() if not torch.equal(values, tuned[name])}
    assert changed == {"classifier.weight", "classifier.bias"}


@pytest.mark.parametrize(
    "options", [{"epochs": 1}, {"epochs": 0.1, "batch_size": 8}, {"warmup": 0.9, "decay": "constant"}]
)
def test_a_single_step_trains(options):
    """Warmup starts at a rate of zero, so it cannot take all steps."""
    model = vit(0)
    tuned = finetune(model, pictures(), processor=PROCESSOR, device="cpu", **options)
    assert tuned.record["steps"] == 1
    assert not torch.equal(tuned.model.classifier.weight, model.classifier.weight)


def decided(seed: int, sign: float) -> ViTForImageClassification:
    """A teacher that has an opinion."""
    teacher = vit(seed)
    with torch.no_grad():
        teacher.classifier.weight.mul_(20)
        teacher.classifier.bias.add_(torch.tensor([sign, -sign]))
    return teacher


def distance(student: ViTForImageClassification, data: Dataset, wanted) -> float:
    """Of what it says from what it should say, on average."""
    found = [(predict(student, batch).softmax(-1) - wanted(batch)).abs().mean() for batch in batches(data, student)]
    return float(torch.stack(found).mean())


def test_teachers_alone_need_no_labels():
    """The student comes to say what the teachers say on average, on unlabelled data."""
    model, teachers, data = vit(0), [decided(1, 3.0), decided(2, -1.0)], pictures()
    tuned = finetune(model, data.remove_columns("label"), teachers, processor=PROCESSOR, distill=1.0, **QUICK)

    def wanted(batch):
        return torch.stack([predict(teacher, batch).softmax(-1) for teacher in teachers]).mean(0)

    assert distance(tuned.model, data, wanted) < 0.3 * distance(model, data, wanted)


@pytest.mark.parametrize("trust", ["confidence", "labels"])
def test_the_student_says_what_who_is_believed_says(trust):
    """More than one that believes all; labels are only there where they say who is right."""
    model, teachers, data = vit(0), [decided(1, 3.0), decided(2, -1.0)], pictures()
    known = data if trust == "labels" else data.remove_columns("label")
    believing, even = (
        finetune(model, known, teachers, processor=PROCESSOR, distill=1.0, teacher_weighting=how, **QUICK).model
        for how in (trust, "uniform")
    )

    def wanted(batch):
        return ensemble_predictions(TEACHER_WEIGHTING[trust], teachers, [0.5, 0.5], batch)

    assert distance(believing, data, wanted) < 0.4 * distance(model, data, wanted)
    assert distance(believing, data, wanted) < distance(even, data, wanted)


def test_a_run_cut_short_goes_on_as_if_it_had_not_been(tmp_path, monkeypatch):
    """Two halves, joined by the state on disk, end where one whole run ends."""
    data, folder = pictures(), tmp_path / "state"
    options = {**QUICK, "epochs": 2, "augment": "crop-flip"}
    whole = finetune(vit(0), data, processor=PROCESSOR, checkpoints=folder, **options)
    states = sorted(folder.glob("checkpoint-*"))
    assert [state.name for state in states] == ["checkpoint-8"]

    halves = tmp_path / "halves"

    class CutError(Exception):
        pass

    class Stops:
        def track(self, items, doing):
            for index, item in enumerate(items):
                if index == 5:
                    raise CutError
                yield item

    with pytest.raises(CutError):
        finetune(vit(0), data, processor=PROCESSOR, checkpoints=halves, progress=Stops(), **options)
    (state,) = halves.glob("checkpoint-*")
    collated, collate = [], TrainingDataset.collate
    monkeypatch.setattr(
        TrainingDataset, "collate", lambda feed, chosen: collated.append(chosen) or collate(feed, chosen)
    )
    again = finetune(vit(0), data, processor=PROCESSOR, checkpoints=halves, resume=str(state), **options)
    assert len(collated) == 4, "the first epoch was trained again"
    assert again.record["losses"] == whole.record["losses"]
    for name, values in whole.model.state_dict().items():
        torch.testing.assert_close(again.model.state_dict()[name], values, atol=1e-6, rtol=1e-5)


def test_masked_language_model(tmp_path, monkeypatch):
    """Random words in one order: what follows what can be learned. Each epoch masks other words of a text."""
    masks, collate = set(), TrainingDataset.collate

    def recorded(feed, indices):
        masks.add(tuple(feed.prepare(["w0 w1 w2 w3 w0 w1 w2 w3"])["labels"].flatten().tolist()))
        return collate(feed, indices)

    monkeypatch.setattr(TrainingDataset, "collate", recorded)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{index}" for index in range(20))]
    (tmp_path / "words.txt").write_text("\n".join(words))
    tokenizer = BertTokenizerFast(str(tmp_path / "words.txt"))
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    model = BertForMaskedLM(BertConfig(vocab_size=len(words), max_position_embeddings=16, **sizes)).eval()
    texts = Dataset.from_dict({"text": [" ".join(f"w{(row + word) % 4}" for word in range(12)) for row in range(64)]})
    tuned = finetune(model, texts, processor=tokenizer, **{**QUICK, "epochs": 15})
    assert len(masks) > 3
    does = task("BertForMaskedLM")
    held = list(load_samples(texts).batches(does.preparer(tokenizer, model.config), 16))
    assert evaluate(tuned.model, held).loss < 0.6 * evaluate(model, held).loss
    saved = tuned.save(tmp_path / "out")
    assert BertForMaskedLM.from_pretrained(saved).config.vocab_size == len(words)
    assert BertTokenizerFast.from_pretrained(saved).get_vocab() == tokenizer.get_vocab()


def test_saved_with_where_it_comes_from(tmp_path):
    vit(0).save_pretrained(tmp_path / "model")
    PROCESSOR.save_pretrained(tmp_path / "model")
    shutil.copytree(tmp_path / "model", tmp_path / "teacher")
    tuned = finetune(tmp_path / "model", pictures(), [tmp_path / "teacher"], **QUICK)
    folder = tuned.save(tmp_path / "out")
    record = json.loads((folder / "transfuse.json").read_text())
    assert record["finetuned"]["path"] == str(tmp_path / "model")
    assert record["teachers"][0]["path"] == str(tmp_path / "teacher")
    assert record["schedule"]["learning_rate"] == 3e-3
    assert "teacher" in (folder / "README.md").read_text()
    assert (folder / "preprocessor_config.json").exists() or (folder / "processor_config.json").exists()


@pytest.mark.parametrize(
    ("teacher", "words"),
    [
        (vit(1, num_labels=3), "num_labels"),
        (vit(1, id2label={0: "dark", 1: "light"}, label2id={"dark": 0, "light": 1}), None),
        (BertForMaskedLM(BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, vocab_size=9)), "teach"),
    ],
)
def test_a_teacher_of_something_else(teacher, words):
    if words is None:  # the model's classes have no names: whose ids they are is taken on trust
        finetune(vit(0), pictures(), [teacher], processor=PROCESSOR, **QUICK)
    else:
        with pytest.raises(TransfuseError, match=words):
            finetune(vit(0), pictures(), [teacher], processor=PROCESSOR, **QUICK)


def test_another_run_is_not_resumed(tmp_path):
    finetune(vit(0), pictures(), processor=PROCESSOR, checkpoints=str(tmp_path), **QUICK)
    (state,) = tmp_path.glob("checkpoint-*")
    with pytest.raises(ConfigError, match="differs in: finetuned, schedule"):
        finetune(vit(1), pictures(), processor=PROCESSOR, checkpoints=tmp_path, resume=str(state), epochs=7)


def test_a_run_is_not_resumed_with_other_samples(tmp_path):
    data = pictures()
    finetune(vit(0), data, processor=PROCESSOR, checkpoints=tmp_path, **QUICK)
    (state,) = tmp_path.glob("checkpoint-*")
    swapped = [1 - label for label in data["label"]]
    others = data.remove_columns("label").add_column("label", swapped, feature=data.features["label"])
    turned = data.select(range(64)[::-1])
    for changed in (others, turned):
        with pytest.raises(ConfigError, match="differs in: content of the data;"):
            finetune(vit(0), changed, processor=PROCESSOR, checkpoints=tmp_path, resume=str(state), **QUICK)
    finetune(vit(0), pictures(), processor=PROCESSOR, checkpoints=tmp_path, resume=str(state), **QUICK)


def test_a_run_is_compared_with_the_one_that_it_resumes_wherever_it_saves(tmp_path):
    state = tmp_path / "state"
    whole = finetune(vit(0), pictures(), processor=PROCESSOR, checkpoints=state, **QUICK)
    (saved,) = state.glob("checkpoint-*")
    for place in (None, tmp_path / "other"):
        again = finetune(vit(0), pictures(), processor=PROCESSOR, checkpoints=place, resume=saved, **QUICK)
        assert again.record["steps"] == whole.record["steps"]
        for model, changes, differing in ((vit(1), {}, "finetuned"), (vit(0), {"seed": 1}, "schedule")):
            options = {**QUICK, "checkpoints": place, "resume": saved, **changes}
            with pytest.raises(ConfigError, match=rf"whose state is in \S*/state differs in: {differing};"):
                finetune(model, pictures(), processor=PROCESSOR, **options)
    (state / "run.json").unlink()
    with pytest.raises(ConfigError, match=r"checkpoint-24: no run.json beside it"):
        finetune(vit(0), pictures(), processor=PROCESSOR, resume=saved, **QUICK)


def test_what_is_no_training_state_is_not_resumed(tmp_path):
    vit(0).save_pretrained(tmp_path / "model")
    with pytest.raises(CheckpointError, match=r"model: is no complete training state, .* give a folder checkpoint-N"):
        finetune(vit(0), pictures(), processor=PROCESSOR, resume=tmp_path / "model", **QUICK)
    with pytest.raises(ConfigError, match="resume: True is not a path; give that of a folder checkpoint-N"):
        finetune(vit(0), pictures(), processor=PROCESSOR, resume=True, **QUICK)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_comes_back_in_half_precision(dtype, tmp_path):
    """Trained in float32, saved as it was, by the way to compute attention that it had."""
    model = vit(0).to(dtype)
    tuned = finetune(model, pictures(), processor=PROCESSOR, **QUICK)
    assert tuned.model.dtype == dtype
    assert tuned.model.config._attn_implementation == model.config._attn_implementation == "sdpa"
    saved = ViTForImageClassification.from_pretrained(tuned.save(tmp_path / "out"), dtype="auto")
    assert saved.dtype == dtype


def test_labels_that_nobody_looks_at_may_be_missing():
    data = pictures()
    unknown = data.remove_columns("label").add_column("label", [None, *data["label"][1:]])
    with pytest.raises(TransfuseError, match="no label"):
        finetune(vit(0), unknown, [vit(1)], processor=PROCESSOR, **QUICK)
    assert finetune(vit(0), unknown, [vit(1)], processor=PROCESSOR, distill=1.0, **QUICK).record["steps"] == 24


def test_options_are_checked():
    with pytest.raises(ConfigError, match="learning_rte"):
        finetune(vit(0), pictures(), processor=PROCESSOR, learning_rte=1)
    with pytest.raises(ConfigError, match="CUDA_VISIBLE_DEVICES"):
        finetune(vit(0), pictures(), processor=PROCESSOR, device="cuda:1")
    with pytest.raises(ConfigError, match="image processor"):
        finetune(vit(0), pictures())
    with pytest.raises(ConfigError, match="no teacher"):
        finetune(vit(0), pictures(), processor=PROCESSOR, distill=1.0)
    for teachers in ("teacher", vit(1), iter([vit(1)]), 1):
        with pytest.raises(ConfigError, match="give a list"):
            finetune(vit(0), pictures(), teachers, processor=PROCESSOR)
    with pytest.raises(ConfigError, match="no labels are used"):
        finetune(vit(0), pictures(), [vit(1)], processor=PROCESSOR, distill=1.0, label_smoothing=0.1)
    with pytest.raises(ConfigError, match="distill: with 0, teachers have no effect; leave them and this option out"):
        finetune(vit(0), pictures(), [vit(1)], processor=PROCESSOR, distill=0)
    with pytest.raises(TransfuseError, match="no column that holds numbers"):
        finetune(vit(0, num_labels=1), pictures(), processor=PROCESSOR)


def test_a_batch_is_one_mean_in_however_many_passes(monkeypatch):
    """Texts with few tokens do not count more where memory holds few samples."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefgh"]
    tokenizer = BertTokenizerFast(vocab={word: index for index, word in enumerate(words)})
    texts = ["a b c d e f g h " * 2, "a", "c d", "e f g h a b c"] * 2
    config = GPT2Config(n_embd=8, n_layer=1, n_head=2, vocab_size=13, bos_token_id=2, eos_token_id=3, resid_pdrop=0.0,
                        embd_pdrop=0.0, attn_pdrop=0.0)  # fmt: skip
    torch.manual_seed(0)
    model = GPT2LMHeadModel(config).eval()
    found = []
    for room in (8, 1):
        monkeypatch.setattr("transfuse.finetuning.finetune.samples_at_once", lambda *given, room=room, **named: room)
        tuned = finetune(
            model, Dataset.from_dict({"text": texts}), processor=tokenizer, batch_size=8, epochs=2, device="cpu",
            learning_rate=1e-2,
        )  # fmt: skip
        found.append(tuned.model.state_dict())
    for name, values in found[0].items():
        torch.testing.assert_close(found[1][name], values, atol=1e-5, rtol=1e-4)
