"""Steps along a momentum made orthogonal, beside torch's own in bfloat16."""

import pytest
import torch
from torch import nn

from transfuse.distillation.muon import Muon, orthogonalize

shapes = pytest.mark.parametrize("shape", [(8, 8), (6, 20), (20, 6), (1, 5)])


@shapes
def test_directions_stay_and_become_alike(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    found = u.T @ orthogonalize(matrix) @ v.T
    torch.testing.assert_close(found, torch.diag(found.diagonal()), atol=1e-9, rtol=0)
    assert (found.diagonal() > 0.6).all()
    assert (found.diagonal() < 1.3).all()
    assert orthogonalize(torch.zeros(shape)).eq(0).all()


@shapes
def test_steps_as_those_of_torch(shape):
    start = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    mine, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    ours = Muon([{"params": [mine], "lr": 0.02}])
    torchs = torch.optim.Muon([theirs], lr=0.1, weight_decay=0.0, adjust_lr_fn="match_rms_adamw")  # 0.2 of it
    for seed in range(5):
        gradient = torch.randn(shape, generator=torch.Generator().manual_seed(seed + 1))
        mine.grad, theirs.grad = gradient.clone(), gradient.clone()
        ours.step()
        torchs.step()
    torch.testing.assert_close(mine - start, theirs - start, atol=0.006, rtol=0.05)
    assert (mine - start).abs().max() > 0.03


def test_goes_on_from_what_it_saved():
    gradients = torch.randn(4, 3, 5, generator=torch.Generator().manual_seed(0))

    def run(optimizer, matrix, some):
        for each in some:
            matrix.grad = each.clone()
            optimizer.step()

    whole, parted = nn.Parameter(torch.zeros(3, 5)), nn.Parameter(torch.zeros(3, 5))
    run(Muon([{"params": [whole]}]), whole, gradients)
    first, second = Muon([{"params": [parted]}]), Muon([{"params": [parted]}])
    run(first, parted, gradients[:2])
    second.load_state_dict(first.state_dict())
    run(second, parted, gradients[2:])
    torch.testing.assert_close(parted, whole, atol=0, rtol=0)
