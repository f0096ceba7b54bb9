"""A common basis: copies of one model meet in it, and others come closer than by the anchor alone."""

import torch
from cases import CASES

from transfuse.alignment.exact.procrustes_mean import dispersion, generalized_procrustes
from transfuse.alignment.interface import AlignContext
from transfuse.alignment.methods import ALIGNMENT_METHODS
from transfuse.network.model import network

CPU = torch.device("cpu")
CASE = CASES[0]


def aligned(seeds):
    networks = [network(CASE.build(seed), CPU) for seed in seeds]
    return [ALIGNMENT_METHODS["exact"](networks[0], other, AlignContext("weights")) for other in networks[1:]]


def test_models_come_closer_together_and_keep_their_function():
    found = aligned((1, 2, 3, 4))
    weights = [0.4, 0.2, 0.2, 0.2]
    closer = generalized_procrustes(found, weights)
    assert dispersion(closer, weights) < 0.99 * dispersion(found, weights)
    for seed, each in zip((2, 3, 4), closer, strict=True):
        reference = CASE.logits(CASE.build(seed))
        torch.testing.assert_close(CASE.logits(CASE.build(0), each.carried), reference, atol=1e-6, rtol=1e-6)


def test_copies_of_one_model_stay_together():
    found = aligned((1, 1, 1))
    closer = generalized_procrustes(found, [1 / 3] * 3)
    assert dispersion(closer, [1 / 3] * 3) < 1e-12
