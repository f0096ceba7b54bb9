"""Tiny pairs of ViTs that the flow is tried on, with any options."""

from collections.abc import Mapping
from functools import cache
from typing import Any

import torch
from torch import Tensor
from transformers import ViTConfig, ViTForImageClassification

from transfuse.alignment.flow.method import align_flow
from transfuse.alignment.flow.sample_filter import low_loss_samples
from transfuse.alignment.interface import AlignContext, Alignment, Method
from transfuse.config.flow_options import FlowOptions
from transfuse.merging.mean import mean
from transfuse.network.model import Network, network

SHAPES = {"narrow": (12, 2), "wide": (16, 2), "deep": (12, 7)}
PAIRS = {  # anchor, source
    "equal": ("narrow", "narrow"), "deep": ("deep", "deep"), "narrow_to_wide": ("wide", "narrow"),
    "wide_to_narrow": ("narrow", "wide"),
}  # fmt: skip


@cache
def vit(shape: str, seed: int) -> Network:
    """Build a tiny ViT of 4 x 4 patches."""
    width, layers = SHAPES[shape]
    torch.manual_seed(seed)
    model = ViTForImageClassification(
        ViTConfig(
            hidden_size=width, intermediate_size=2 * width, num_hidden_layers=layers, num_attention_heads=2,
            image_size=16, patch_size=4, num_labels=4,
        )
    ).eval()  # fmt: skip
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return network(model, torch.device("cpu"))


@cache
def images() -> tuple[dict[str, Tensor], ...]:
    """One batch of labelled noise."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randn(16, 3, 16, 16, generator=generator)
    return ({"pixel_values": pixels, "labels": torch.arange(16) % 4},)


def align(
    paper: FlowOptions, pair: str = "equal", evidence: str = "activations", method: Method = align_flow
) -> Alignment:
    """Align the pair's source to its anchor."""
    anchor, source = (vit(shape, seed) for seed, shape in enumerate(PAIRS[pair]))
    data = list(images())
    if paper.max_loss is not None:
        data = low_loss_samples([anchor.model, source.model], data, paper.max_loss, 16)
    return method(anchor, source, AlignContext(evidence, data, paper))  # type: ignore[arg-type]


def fused(
    paper: FlowOptions, pair: str = "equal", evidence: str = "activations", method: Method = align_flow
) -> dict[str, Tensor]:
    """Average the two in the anchor's basis."""
    aligned = align(paper, pair, evidence, method)
    return dict(mean([aligned.anchor, aligned.carried], [0.5, 0.5]))


def with_changes(options: FlowOptions, **changes: Any) -> FlowOptions:
    """Return the options with some of them changed."""
    return options.model_copy(update=changes)


def changed(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> set[str]:
    """Name the tensors that differ."""
    return {name for name in before if not torch.allclose(before[name], after[name], rtol=1e-4, atol=1e-6)}


def named(tensors: Mapping[str, Tensor], *parts: str) -> set[str]:
    """Name the tensors whose names hold one of these."""
    return {name for name in tensors if any(part in name for part in parts)}
