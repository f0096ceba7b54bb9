"""Metrics, ensembles, paths and barriers."""

import pytest
import torch
from cases import CASES

from transfuse.evaluation.evaluate import barrier, ensemble, evaluate, measure_path
from transfuse.evaluation.kind import mean_of_log_probabilities
from transfuse.merging.mean import mean

VIT = CASES[0]


def batches(samples=12):
    images = torch.randn(samples, 2, 12, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    labels = torch.arange(samples) % 5
    return [{"pixel_values": images[:7], "labels": labels[:7]}, {"pixel_values": images[7:], "labels": labels[7:]}]


def test_batching_changes_nothing():
    model = VIT.build()
    whole = {name: torch.cat([batch[name] for batch in batches()]) for name in batches()[0]}
    parts, once = evaluate(model, batches()), evaluate(model, [whole])
    assert (parts.accuracy, parts.loss) == (once.accuracy, pytest.approx(once.loss))


def test_an_ensemble_of_one_model_twice_is_that_model():
    model = VIT.build()
    found, alone = ensemble([model, model], batches()), evaluate(model, batches())
    assert (found.accuracy, found.loss) == (alone.accuracy, pytest.approx(alone.loss, rel=1e-5))


def test_an_ensemble_may_be_wrong_by_any_number_of_nats():
    model = VIT.build()
    with torch.no_grad():
        model.classifier.weight.zero_()
        model.classifier.bias.copy_(torch.tensor([200.0, 0, 0, 0, 0]))
    alone = evaluate(model, batches()).loss
    assert alone > 100
    assert ensemble([model, model], batches()).loss == pytest.approx(alone)
    improbable = torch.tensor([-800.0, 0.0])
    torch.testing.assert_close(mean_of_log_probabilities([improbable, improbable]), improbable)


def test_barrier_is_the_excess_over_the_straight_line():
    assert barrier([0, 0.5, 1], [1.0, 3.0, 2.0], 1.0, 2.0) == 1.5
    assert barrier([0, 0.5, 1], [1.0, 1.5, 2.0], 1.0, 2.0) == 0
    assert barrier([0, 0.5, 1], [1.0, 1.5, 4.0], 1.0, 2.0) == 2  # the carried end lost its function


def test_path_ends_at_its_models_and_passes_their_mean():
    start, end = VIT.build(1), VIT.build(2)
    parents = evaluate(start, batches()), evaluate(end, batches())
    seen = []
    line = measure_path(start, start.state_dict(), end.state_dict(), parents, batches(), 5, seen.append)
    assert seen == [0, 0.25, 0.5, 0.75, 1]
    assert (line.points[0], line.points[-1]) == parents
    middle = VIT.build()
    middle.load_state_dict(mean([start.state_dict(), end.state_dict()], [0.5, 0.5]))
    assert line.points[2] == evaluate(middle, batches())
