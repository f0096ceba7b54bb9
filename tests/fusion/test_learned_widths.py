"""Learned weights of models that maps only approximate: the predictions of the other model as it is are learned."""

import pytest
import torch
from transformers import ViTConfig, ViTForImageClassification, ViTModel

from transfuse import fuse, match
from transfuse.base.progress import silent
from transfuse.cli.demo.digits import NAMES, digits, processor
from transfuse.fusion.fuse import _request

DIGITS = {"image_size": 8, "patch_size": 2, "num_channels": 1, "id2label": dict(enumerate(NAMES))}


def vit(width: int, seed: int) -> ViTForImageClassification:
    """Return an untrained ViT whose predictions differ between images."""
    torch.manual_seed(seed)
    sizes = {"hidden_size": width, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 2 * width}
    model = ViTForImageClassification(ViTConfig(**sizes, **DIGITS)).eval()
    with torch.no_grad():
        model.classifier.weight.mul_(20)
        model.vit.embeddings.patch_embeddings.projection.weight.mul_(20)
    return model


def test_the_wide_model_teaches_as_it_is() -> None:
    narrow, wide = vit(16, 1), vit(32, 2)
    data = digits()
    pixels = processor()(data["test"]["image"][:200], return_tensors="pt")["pixel_values"]

    @torch.no_grad()
    def divergence(model: ViTForImageClassification) -> float:
        """Return the mean divergence of a model's predictions from those of the wide model."""
        logits, targets = (each(pixel_values=pixels).logits.log_softmax(-1) for each in (model, wide))
        return float((targets.exp() * (targets - logits)).sum(-1).mean())

    options = {"weights": [0.01, 0.99], "teacher_weighting": "uniform", "samples": 400, "steps": 60}
    fused = fuse([narrow, wide], data, align="flow", merge="learned", processor=processor(), **options)
    assert fused.model.config.hidden_size == 16
    assert divergence(fused.model) < divergence(narrow) / 3


def test_without_heads_the_aligned_embeddings_are_learned() -> None:
    """Embeddings of two widths cannot be compared."""
    shapes = [vit(width, seed).config for width, seed in ((16, 1), (32, 2))]
    narrow, wide = (ViTModel(shape).eval() for shape in shapes)
    images = {"processor": processor(), "samples": 100, "steps": 2}
    fused = fuse([narrow, wide], digits().remove_columns("label"), align="flow", merge="learned", **images)
    assert fused.model.config.hidden_size == 16


@pytest.mark.parametrize(("align", "as_they_are"), [("flow", [1]), ("exact", [])])
def test_a_model_of_the_same_width_teaches_as_it_is_where_maps_do_not_keep_its_function(align, as_they_are) -> None:
    models = [vit(16, 1), vit(16, 2)]
    options = {"align": align, "merge": "learned", "samples": 20, "steps": 1}
    request = _request(match(models, digits(), processor=processor(), **options), silent)
    assert list(request.originals) == as_they_are
    pixels = torch.randn(3, 1, 8, 8)
    for number, model in request.originals.items():
        torch.testing.assert_close(model(pixels).logits, models[number](pixels).logits)
