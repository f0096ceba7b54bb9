"""A wide model is made smaller from activations of bfloat16, and the result is the same up to that."""

import pytest
import torch
from cases import CASES, Case

from transfuse.base.batch import cast
from transfuse.base.progress import silent
from transfuse.base.timing import Stopwatch
from transfuse.config.make import make
from transfuse.config.shrink_options import ShrinkOptions
from transfuse.merging.fitting import fit_precision
from transfuse.network import precision
from transfuse.network.model import network
from transfuse.network.outputs import model_output
from transfuse.network.sizes import Sizes
from transfuse.network.target_sizes import target_sizes
from transfuse.shrinking.shrink import shrunk_model

QUICK = make(ShrinkOptions, {"ratio": 0.5, "effort": "quick"})
NAMES = ("ViTForImageClassification", "GPT2LMHeadModel", "DINOv3ViTModel")  # the last has no head


@pytest.mark.parametrize("case", [case for case in CASES if case.name in NAMES], ids=lambda case: case.name)
def test_a_narrower_stream_in_mixed_precision(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "cpu_multiplies_bfloat16", lambda: True)
    found = []
    for least in (1, 10**6):
        monkeypatch.setattr(fit_precision, "MIN_UNITS", least)
        model = case.build(1).float()
        sizes = target_sizes(model.config, Sizes(16, None, 20, 2, None))
        batches = [cast(case.inputs(model.config, seed), torch.float32) for seed in range(40)]
        small, _ = shrunk_model(network(model, torch.device("cpu")), sizes, batches, QUICK, silent, Stopwatch())
        found.append(model_output(small, batches[0]))
    mixed, single = found
    assert mixed.dtype is torch.float32
    assert (mixed - single).square().mean() < 0.1 * single.var()
