"""What is computed on a device stays there: on one that is pretended, and on a GPU where there is one."""

import copy
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import ViTConfig, ViTForImageClassification

FAST = ("flow, heads kept apart", "fewer blocks")  # the latter fits layers, too
SLOW = (
    "least squares", "average", "flow", "flow, hard plans, weighted junctions", "flow, uniform", "flow, other widths",
    "flow, confident samples", "flow, cached moments", "exact, mean", "permutations", "learned maps", "learned weights",
    "language", "language, flow", "language, learned",
)  # fmt: skip
ROUNDING = 1e-4
WEIGHED = 5e-4  # where teachers are weighed by predictions in bfloat16, which the CPU and the other device round apart
LEARNED = 2e-3  # where each step has one size, however small the gradient that differs is
UNSETTLED = 1.0  # weights of untrained language models, whose layers read hardly anything that fixes them

BOUNDS = {"language": UNSETTLED, "learned": LEARNED, "permutations": WEIGHED}


def fused_there(*ways: str) -> None:
    run = [sys.executable, str(Path(__file__).parent / "fuse_on_fake_device.py"), *ways]
    done = subprocess.run(run, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert [each["way"] for each in found] == list(ways)
    for each in found:
        assert each["there"] > 100, each
        bound = next((bound for word, bound in BOUNDS.items() if word in each["way"]), ROUNDING)
        assert each["differs"] < bound, each


@pytest.mark.skipif(
    not hasattr(torch.utils.backend_registration, "_setup_privateuseone_for_python_backend"),
    reason="this torch cannot pretend a device",
)
@pytest.mark.parametrize("ways", [FAST, pytest.param(SLOW, marks=pytest.mark.slow)], ids=["some", "others"])
def test_a_device_that_is_not_the_cpu(ways):
    fused_there(*ways)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_classifier_whose_passes_are_replayed_learns_the_same(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parent.parent / "benchmarks")
    from training import Recipe, train_classifier

    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, image_size=8, patch_size=4
    )
    first = ViTForImageClassification(config)
    images, labels = torch.randn(64, 3, 8, 8), torch.arange(64) % 2
    losses = []
    for device in ("cpu", "cuda"):
        model = copy.deepcopy(first).to(device)
        recipe = Recipe(epochs=3, batch_size=16)
        train_classifier(
            model, images.to(device), labels.to(device), recipe, 0, lambda epoch, loss: losses.append(loss)
        )
    torch.testing.assert_close(losses[:3], losses[3:], rtol=0.02, atol=0.02)
