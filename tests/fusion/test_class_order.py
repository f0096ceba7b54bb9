"""Classes with the same names in another order are brought into the anchor's order, so that the fusion is the same."""

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cases import BERT, VIT
from kept_warnings import KeptWarnings
from PIL import Image
from safetensors.torch import load_file
from transformers import (
    BertConfig,
    BertForTokenClassification,
    PreTrainedModel,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessorPil,
)

import transfuse
from transfuse.cli.jobs.evaluate import path_job
from transfuse.config.options import Options
from transfuse.errors import SpecError
from transfuse.network.class_order import class_order

NAMES = ["cat", "dog", "owl"]
TURNED = ["dog", "owl", "cat"]  # a permutation that is not its own inverse
ROWS = [NAMES.index(name) for name in TURNED]


def named(model: PreTrainedModel, names: list[str]) -> PreTrainedModel:
    model.config.id2label = dict(enumerate(names))
    model.config.label2id = {name: index for index, name in enumerate(names)}
    return model


def vit(seed: int) -> ViTForImageClassification:
    torch.manual_seed(seed)
    model = ViTForImageClassification(ViTConfig(**VIT | {"num_labels": 3, "num_channels": 3}))
    torch.nn.init.normal_(model.classifier.bias)
    return model


def tagger(seed: int) -> BertForTokenClassification:
    torch.manual_seed(seed)
    model = BertForTokenClassification(BertConfig(**BERT | {"num_labels": 3}))
    torch.nn.init.normal_(model.classifier.bias)
    return model


def turned(model: PreTrainedModel) -> PreTrainedModel:
    """The same classifier with its classes in another order."""
    with torch.no_grad():
        model.classifier.weight.copy_(model.classifier.weight[ROWS])
        model.classifier.bias.copy_(model.classifier.bias[ROWS])
    return named(model, TURNED)


def pairs(folder: Path, build: Any = vit) -> tuple[list[str], list[str]]:
    """Two models with their classes in one order, and the same models with those of the source in another."""
    models = {"a": named(build(0), NAMES), "b": named(build(1), NAMES), "turned": turned(build(1))}
    for name, model in models.items():
        model.save_pretrained(folder / name)
        if build is vit:
            ViTImageProcessorPil(
                size={"height": model.config.image_size, "width": model.config.image_size}
            ).save_pretrained(folder / name)
    a, b, other = (str(folder / name) for name in models)
    return [a, b], [a, other]


def pictures(folder: Path) -> str:
    generator = np.random.default_rng(0)
    for name in NAMES:
        (folder / "images" / name).mkdir(parents=True)
        for number in range(4):
            pixels = generator.integers(0, 256, (8, 8, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(folder / "images" / name / f"{number}.png")
    return str(folder / "images")


def assert_same(ordered: Path, reordered: Path) -> None:
    expected, actual = (load_file(folder / "model.safetensors") for folder in (ordered, reordered))
    assert expected.keys() == actual.keys()
    for name in expected:
        torch.testing.assert_close(actual[name], expected[name], rtol=0, atol=0, msg=name)
    configs = [json.loads((folder / "config.json").read_text()) for folder in (ordered, reordered)]
    assert configs[0]["id2label"] == configs[1]["id2label"] == {str(row): name for row, name in enumerate(NAMES)}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("align", ["none", "exact", "flow"])
@pytest.mark.parametrize("build", [vit, tagger])
def test_the_fusion_is_that_of_equal_orders(tmp_path: Path, build: Any, align: str, stream: bool) -> None:
    ordered, reordered = pairs(tmp_path, build)
    transfuse.fuse(ordered, align=align, stream=stream).save(tmp_path / "expected")
    transfuse.fuse(reordered, align=align, stream=stream).save(tmp_path / "actual")
    assert_same(tmp_path / "expected", tmp_path / "actual")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("merge", ["least-squares", "learned"])
def test_with_samples(tmp_path: Path, merge: str, stream: bool) -> None:
    ordered, reordered = pairs(tmp_path)
    options: dict[str, Any] = {"data": pictures(tmp_path), "merge": merge, "stream": stream}
    if merge == "learned":
        options |= {"steps": 3, "teacher_weighting": "labels"}
    transfuse.fuse(ordered, **options).save(tmp_path / "expected")
    transfuse.fuse(reordered, **options).save(tmp_path / "actual")
    assert_same(tmp_path / "expected", tmp_path / "actual")


def test_loaded_models_are_not_changed(tmp_path: Path) -> None:
    anchor, source = named(vit(0), NAMES).eval(), turned(vit(1)).eval()
    before = {name: values.clone() for name, values in source.state_dict().items()}
    fused = transfuse.fuse([anchor, source], align="none").model
    assert all(torch.equal(values, before[name]) for name, values in source.state_dict().items())
    assert list(source.config.id2label.values()) == TURNED
    expected = (anchor.classifier.bias + vit(1).classifier.bias) / 2
    torch.testing.assert_close(fused.classifier.bias, expected)


def test_the_user_is_told(tmp_path: Path) -> None:
    ordered, reordered = pairs(tmp_path)
    told = KeptWarnings()
    transfuse.fuse(ordered, progress=told, align="none")
    assert told.lines == []
    transfuse.fuse(reordered, progress=told, align="none")
    assert len(told.lines) == 1
    assert told.lines[0].startswith(f"{reordered[1]}: id2label names the anchor's classes in another order")


@pytest.mark.parametrize(
    "names",
    [["cat", "dog", "LABEL_2"], ["cat", "dog", "dog"], ["cat", "dog", "emu"]],
    ids=["generic", "twice", "others"],
)
def test_names_that_do_not_settle_the_order_are_refused(tmp_path: Path, names: list[str]) -> None:
    named(vit(0), names[::-1]).save_pretrained(tmp_path / "a")
    other = [name.replace("emu", "owl") for name in names]
    named(vit(1), other).save_pretrained(tmp_path / "b")
    with pytest.raises(SpecError, match="order the classes of both models alike"):
        transfuse.fuse([tmp_path / "a", tmp_path / "b"], align="none")


def test_generic_names_are_not_reordered(tmp_path: Path) -> None:
    named(vit(0), ["LABEL_0", "LABEL_1", "LABEL_2"]).save_pretrained(tmp_path / "a")
    named(vit(1), ["LABEL_2", "LABEL_0", "LABEL_1"]).save_pretrained(tmp_path / "b")
    transfuse.fuse([tmp_path / "a", tmp_path / "b"], align="none").save(tmp_path / "out")
    fused, *parents = (load_file(tmp_path / name / "model.safetensors") for name in ("out", "a", "b"))
    mean = (parents[0]["classifier.bias"] + parents[1]["classifier.bias"]) / 2
    torch.testing.assert_close(fused["classifier.bias"], mean)


def test_models_without_a_classifier_have_no_order() -> None:
    configs = [ViTConfig(id2label=dict(enumerate(names))) for names in (NAMES, TURNED)]
    assert class_order(*configs, "ViTForImageClassification") == [2, 0, 1]
    assert class_order(*configs, "ViTModel") is None
    assert class_order(configs[0], configs[0], "ViTForImageClassification") is None


def test_teachers_are_reordered(tmp_path: Path) -> None:
    ordered, reordered = pairs(tmp_path)
    options: dict[str, Any] = {"epochs": 2, "distill": 1.0, "batch_size": 4, "device": "cpu"}
    told, data = KeptWarnings(), pictures(tmp_path)
    expected, actual = (
        transfuse.finetune(student, data, [teacher], progress=told, **options).model.state_dict()
        for student, teacher in (ordered, reordered)
    )
    for name in expected:
        torch.testing.assert_close(actual[name], expected[name], msg=name)
    assert told.lines == [
        f"{reordered[1]}: id2label names the model's classes in another order; its head is reordered by these names"
    ]


def test_a_path_between_models_with_other_orders(tmp_path: Path) -> None:
    ordered, reordered = pairs(tmp_path)
    told, data = KeptWarnings(), pictures(tmp_path)
    lines = [path_job(*models, data, None, 3, Options(), told)[0].as_dict() for models in (ordered, reordered)]
    assert lines[0]["barrier"] == pytest.approx(lines[1]["barrier"], abs=1e-6)
    assert told.lines == [
        f"{reordered[1]}: id2label names the anchor's classes in another order; its head is reordered by these names"
    ]


def test_names_are_compared_without_case_and_blanks() -> None:
    anchor, source = named(vit(0), NAMES), named(vit(1), [" Dog", "OWL", "cat"])
    assert class_order(anchor.config, source.config, "ViTForImageClassification") == [2, 0, 1]
    fused = transfuse.fuse([anchor, source], align="none").model
    expected = (anchor.classifier.weight + source.classifier.weight[[2, 0, 1]]) / 2
    torch.testing.assert_close(fused.classifier.weight, expected)
    assert fused.config.id2label == dict(enumerate(NAMES))
    one, other = (named(vit(0), names).config for names in (["x", "X", "y"], ["X", "y", "x"]))
    assert class_order(one, other, "ViTForImageClassification") == [2, 0, 1], "names that differ in case only"


def test_a_fine_tune_in_another_order_has_no_new_head() -> None:
    base, new = named(vit(0), NAMES), named(vit(1), NAMES)
    tuned = copy.deepcopy(base)
    with torch.no_grad():
        for values in tuned.parameters():
            values.add_(0.02 * values.std(correction=0) * torch.randn_like(values))
    ordered = transfuse.carry(base, tuned, new)
    reordered = transfuse.carry(base, turned(copy.deepcopy(tuned)), new)
    assert (ordered.options.head, reordered.options.head) == ("fused", "fused")
    assert reordered.model.config.id2label == dict(enumerate(TURNED))
    torch.testing.assert_close(reordered.model.classifier.weight, ordered.model.classifier.weight[ROWS])
    respelled = transfuse.carry(named(base, [name.upper() for name in NAMES]), tuned, new)
    assert respelled.options.head == "fused"
    assert respelled.model.config.id2label == dict(enumerate(NAMES))
    torch.testing.assert_close(respelled.model.classifier.weight, ordered.model.classifier.weight)


@pytest.mark.parametrize("verb", ["fuse", "carry"])
def test_an_adapter_has_the_order_of_its_base(tmp_path: Path, verb: str) -> None:
    """Whoever loads the adapter onto the base reads the names of the classes in the configuration of the base."""
    base = named(vit(0), NAMES)
    tuned = copy.deepcopy(base)
    torch.nn.init.normal_(tuned.classifier.bias)
    other = turned(vit(1) if verb == "carry" else copy.deepcopy(base))
    other.save_pretrained(tmp_path / "other")
    if verb == "carry":
        made = transfuse.carry(base, tuned, tmp_path / "other")
    else:
        made = transfuse.fuse([tuned], base=tmp_path / "other", merge="task-arithmetic")
    assert made.model.config.id2label == dict(enumerate(NAMES))
    made.save_adapter(tmp_path / "adapter", 2)
    bias = load_file(tmp_path / "adapter" / "adapter_model.safetensors")["base_model.model.classifier.bias"]
    torch.testing.assert_close(bias, made.model.classifier.bias[ROWS])
