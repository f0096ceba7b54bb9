"""Activations that are computed again: the same gradients from fewer kept numbers."""

import pytest
import torch
from cases import CASES, HEADLESS, HEADS, Case
from torch import Tensor

from transfuse.base.batch import cast
from transfuse.config.literals import LearningOptions
from transfuse.distillation import recompute
from transfuse.distillation.teacher_weighting import uniform
from transfuse.merging.training.learned_weights import WeightDistillation
from transfuse.network import precision

REPEATED = ("Albert",)  # blocks that run several times are not computed again
SAYING = [case for case in CASES if not case.name.startswith((*HEADLESS, *REPEATED))]
CLASSIFIERS = [
    case for case in HEADS if case.name in ("GPT2ForSequenceClassification", "LlamaForSequenceClassification")
]


def kept_bytes(
    case: Case, monkeypatch: pytest.MonkeyPatch, share: int, dtype: torch.dtype = torch.float64
) -> tuple[int, dict[str, Tensor]]:
    """The bytes that a loss keeps for its gradients if a sample may take a `share`-th of the memory, and those."""
    monkeypatch.setattr(recompute, "FREE_SHARE", share)
    fused = case.build(1)
    sample = cast(case.inputs(fused.config), dtype)
    loop = WeightDistillation(
        fused, [case.build(2)], [1.0], ([sample], [sample]), LearningOptions(steps=1), uniform, (), 0
    )
    kept: dict[int, int] = {}

    def keep(values: Tensor) -> Tensor:
        storage = values.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return values

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda values: values):
        loss = loop.loss(sample)
    loss.backward()
    assert not any("forward" in vars(module) for module in fused.modules())
    return sum(kept.values()), {name: values.grad for name, values in fused.named_parameters()}


@pytest.mark.parametrize("case", [*SAYING, *CLASSIFIERS], ids=lambda case: case.name)
def test_a_sample_that_does_not_fit_is_computed_again(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    plenty, due = kept_bytes(case, monkeypatch, 1)
    little, found = kept_bytes(case, monkeypatch, 2**60)
    assert little < 0.8 * plenty
    for name, values in due.items():
        torch.testing.assert_close(found[name], values, atol=1e-9, rtol=1e-6)


@pytest.mark.parametrize("case", SAYING, ids=lambda case: case.name)
def test_recomputes_in_the_precision_of_the_training(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "cpu_multiplies_bfloat16", lambda: True)
    build = case.build
    monkeypatch.setattr(type(case), "build", lambda _, seed: build(seed).float())
    _, due = kept_bytes(case, monkeypatch, 1, torch.float32)
    _, found = kept_bytes(case, monkeypatch, 2**60, torch.float32)
    for name, values in due.items():
        torch.testing.assert_close(found[name], values)
