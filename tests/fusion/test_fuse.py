"""The job in Python: models in, one model out; nothing given is changed."""

import json

import pytest
import torch
from cases import CASES

import transfuse
from transfuse.errors import CheckpointError, ConfigError, SpecError, TransfuseError

VIT = CASES[0]


def models(count=2, **changes):
    return [VIT.build(seed, **changes).float() for seed in range(count)]


def test_fuse_is_callable_whatever_was_imported_before():
    import transfuse.fusion.fuse

    assert callable(transfuse.fuse)


def test_plain_average_of_three_with_weights():
    given = models(3)
    fused = transfuse.fuse(given, align="none", weights=[2, 1, 1]).model.state_dict()
    for name, values in fused.items():
        parts = [model.state_dict()[name] for model in given]
        torch.testing.assert_close(values, 0.5 * parts[0] + 0.25 * parts[1] + 0.25 * parts[2])


@pytest.mark.parametrize("align", ["flow", "exact"])
def test_all_weight_on_the_anchor_is_the_anchor(align):
    given = models()
    fusion = transfuse.fuse(given, align=align, weights=[1, 0])
    assert torch.allclose(VIT.logits(fusion.model.double()), VIT.logits(given[0].double()), atol=1e-5)


def test_all_weight_on_the_other_is_the_other_in_the_anchors_basis():
    given = models()
    fusion = transfuse.fuse(given, align="exact", weights=[0, 1])
    assert torch.allclose(VIT.logits(fusion.model.double()), VIT.logits(given[1].double()), atol=1e-4)
    name = "vit.layers.0.mlp.fc1.weight"
    assert not torch.allclose(fusion.model.state_dict()[name].float(), given[1].state_dict()[name].float(), atol=0.1)


def test_inputs_are_left_as_they_were():
    given = models()
    given[1].train()
    before = [{name: values.clone() for name, values in model.state_dict().items()} for model in given]
    transfuse.fuse(given)
    assert given[1].training
    for model, kept in zip(given, before, strict=True):
        for name, values in model.state_dict().items():
            assert torch.equal(values, kept[name])


def test_low_precision_is_computed_high_and_written_as_it_came():
    given = [model.to(torch.bfloat16) for model in models()]
    fusion = transfuse.fuse(given)
    assert fusion.model.dtype == torch.bfloat16
    assert fusion.alignments[0].carried["classifier.weight"].dtype == torch.float32
    assert transfuse.fuse(given, dtype="float32").model.dtype == torch.float32


def test_the_record_says_what_happened(tmp_path):
    given = models()
    given[1].save_pretrained(tmp_path / "other")
    fusion = transfuse.fuse([given[0], tmp_path / "other"], align="flow", flow={"plan": "hard"}, weights=[3, 1])
    fusion.save(tmp_path / "out")
    record = json.loads((tmp_path / "out" / "transfuse.json").read_text())
    assert [each["weight"] for each in record["models"]] == [0.75, 0.25]
    assert record["models"][0]["path"] is None
    assert set(record["models"][1]["sha256"]) == {"config.json", "model.safetensors"}
    assert record["match_on"] == "weights"
    space = record["alignments"][0]["spaces"]["0.hidden"]
    assert (space["source_units"], space["exactness"], space["effective_support"]) == (37, 0, pytest.approx(1))
    assert record["versions"].keys() >= {"torch", "transformers", "transfuse", "python"}


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"weights": [1]}, ConfigError, "1 given for 2 models"),
        ({"weights": [0, 0]}, ConfigError, "sum"),
        ({"align": "magic"}, ConfigError, "align: 'magic' is not one of none, flow, exact"),
        ({"allign": "flow"}, ConfigError, "did you mean 'align'"),
        ({"match_on": "activations"}, ConfigError, "needs samples"),
        ({"device": "warp"}, ConfigError, "device: 'warp'"),
    ],
)
def test_options_that_cannot_be(options, kind, message):
    with pytest.raises(kind, match=message):
        transfuse.fuse(models(), **options)


def test_models_that_cannot_be():
    with pytest.raises(ConfigError, match="two or more"):
        transfuse.fuse(models(1))
    with pytest.raises(SpecError, match=r"equal shapes: use --align flow"):
        transfuse.fuse([*models(1), *models(1, intermediate_size=20)], align="none")
    broken = models()
    broken[1].state_dict()["classifier.bias"][2] = float("nan")
    with pytest.raises(CheckpointError, match=r"model 2.*classifier\.bias"):
        transfuse.fuse(broken)
    assert issubclass(SpecError, TransfuseError)


def test_a_loaded_anchor_with_data_needs_a_processor(tmp_path):
    """No silent default: mis-normalised pixels would give plausible, worse alignments."""
    from datasets import Dataset
    from PIL import Image
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessorPil

    torch.manual_seed(0)
    sizes = dict(VIT.sizes) | {"num_channels": 1}
    given = [ViTForImageClassification(ViTConfig(**sizes)).eval() for _ in range(2)]
    data = Dataset.from_dict({"image": [Image.new("L", (12, 12), 10 * index) for index in range(8)]})
    with pytest.raises(ConfigError, match="pass processor="):
        transfuse.fuse(given, data)
    processor = ViTImageProcessorPil(
        do_resize=False, image_mean=[0.1], image_std=[0.2], size={"height": 12, "width": 12}
    )
    fusion = transfuse.fuse(given, data, processor=processor)
    fusion.save(tmp_path / "out")
    assert ViTImageProcessorPil.from_pretrained(tmp_path / "out").image_mean == (0.1,)
    given[0].save_pretrained(tmp_path / "anchor")
    processor.save_pretrained(tmp_path / "anchor")
    by_path = transfuse.fuse([tmp_path / "anchor", given[1]], data)
    for name, values in by_path.model.state_dict().items():
        torch.testing.assert_close(values, fusion.model.state_dict()[name])


@pytest.mark.parametrize("wrong", ["one/path", [3, 4]])
def test_models_of_a_wrong_type(wrong):
    with pytest.raises(ConfigError, match="give a list"):
        transfuse.fuse(wrong)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_with_rotary_positions(tmp_path, dtype):
    """What a model computes beside its weights stays precise, so that the written checkpoint computes the same."""
    llama = next(case for case in CASES if case.name == "LlamaForCausalLM")
    for seed in range(2):
        llama.build(seed).to(dtype).save_pretrained(tmp_path / str(seed))
    fusion = transfuse.fuse([str(tmp_path / "0"), str(tmp_path / "1")], align="exact")
    fusion.save(tmp_path / "out")
    assert {values.dtype for values in fusion.model.state_dict().values()} == {dtype}
    fresh = llama.architecture.from_pretrained(tmp_path / "out").model.rotary_emb.inv_freq
    assert torch.equal(fusion.model.model.rotary_emb.inv_freq, fresh)
