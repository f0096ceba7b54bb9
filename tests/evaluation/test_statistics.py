"""Intervals hold what they should, and tests tell chance from difference."""

from dataclasses import replace
from math import isnan
from statistics import NormalDist

import pytest
import torch

from transfuse.evaluation.comparison import evaluation
from transfuse.evaluation.kind import f1
from transfuse.evaluation.metrics import Predictions, Score, ratio
from transfuse.evaluation.statistics import difference, intervals

NONE = torch.zeros(0, dtype=torch.long)


def classifier(right: torch.Tensor, loss: torch.Tensor | None = None) -> Predictions:
    right = right.double()
    labels = torch.ones(len(right), dtype=torch.long)
    return Predictions(
        right, torch.ones_like(right), 1 - right if loss is None else loss, torch.zeros(15, 3), right.long(), labels
    )


def test_an_interval_is_as_wide_as_theory_has_it() -> None:
    count, share = 900, 0.3
    right = torch.zeros(count)
    right[: int(share * count)] = 1
    low, high = intervals(classifier(right)).accuracy
    wide = NormalDist().inv_cdf(0.975) * (share * (1 - share) / count) ** 0.5
    assert (low, high) == (pytest.approx(share - wide, abs=0.004), pytest.approx(share + wide, abs=0.004))


def test_all_right_of_seven_is_not_certainty() -> None:
    low, high = intervals(classifier(torch.ones(7))).accuracy
    assert (low, high) == (pytest.approx(7 / (7 + 1.96**2), abs=1e-3), 1)  # Wilson (1927)


def test_texts_are_drawn_not_words() -> None:
    """A hundred equal words a text tell no more than one."""
    right = torch.arange(50).remainder(2).double()
    once = Predictions(right, torch.ones(50).double(), right, torch.zeros(15, 3), NONE, NONE)
    often = Predictions(100 * right, torch.full((50,), 100.0).double(), 100 * right, torch.zeros(15, 3), NONE, NONE)
    assert intervals(often) == intervals(once)


def test_a_model_does_not_differ_from_itself() -> None:
    model = classifier(torch.arange(40).remainder(3) > 0)
    found = difference(model, model)
    assert (found.accuracy, found.accuracy_interval, found.accuracy_p) == (0, (0, 0), 1)
    assert (found.loss, found.loss_interval, found.loss_p) == (0, (0, 0), 1)


def test_mcnemar_by_hand() -> None:
    ours, theirs = torch.zeros(20), torch.zeros(20)
    ours[:6], theirs[6:7] = 1, 1  # alone right six times, and once
    found = difference(classifier(ours), classifier(theirs))
    assert found.accuracy == pytest.approx(0.25)
    assert found.accuracy_p == pytest.approx(2 * (1 + 7) / 2**7)
    assert found.accuracy_interval[0] < 0.25 < found.accuracy_interval[1]


def test_a_steady_small_difference_is_seen_and_noise_is_not() -> None:
    generator = torch.Generator().manual_seed(0)
    hard, noise = torch.rand(400, generator=generator).double(), torch.randn(400, generator=generator).double()
    right = torch.ones(400)
    ours = classifier(right, hard)
    assert difference(ours, classifier(right, hard + 0.01)).loss_p < 0.001
    assert difference(ours, classifier(right, hard + 0.01)).loss_interval[1] < 0
    assert difference(ours, classifier(right, hard + noise - noise.mean())).loss_p > 0.9


def sums(correct: torch.Tensor, count: float = 1.0) -> Predictions:
    """Return predictions of a model that is not a classifier."""
    return Predictions(correct, torch.full_like(correct, count), -correct, torch.zeros(15, 3), NONE, NONE)


def test_words_are_not_put_to_mcnemar() -> None:
    """They depend on each other within a text, so texts are exchanged: of ten, in every way."""
    ours, theirs = sums(torch.full((10,), 3.0).double(), 4), sums(torch.full((10,), 2.0).double(), 4)
    assert difference(ours, ours).of("accuracy").p == 1
    assert difference(ours, theirs).of("accuracy").p == pytest.approx(2 / 2**10)
    assert difference(ours, theirs).accuracy_p == difference(ours, theirs).of("exact_match").p


def test_scores_of_a_few_samples_are_exchanged_in_every_way() -> None:
    better, worse = (
        replace(sums(values), scores={"score": Score((values, torch.ones(10)), ratio)})
        for values in (torch.full((10,), 0.3).double(), torch.linspace(0, 0.2, 10).double())
    )
    assert difference(better, worse).scores["score"].p == 2 / 2**10


def test_one_sample_alone_tells_nothing() -> None:
    """Whichever model has it: with or without the swap, both differ as much."""
    for seed in range(10):
        values = torch.rand(300, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        other = values.clone()
        other[3] *= 1.01
        first, second = (
            replace(sums(loss), scores={"score": Score((loss, torch.ones(300)), ratio)}) for loss in (values, other)
        )
        found = difference(first, second, seed)
        assert min(found.accuracy_p, found.loss_p, found.scores["score"].p) > 0.9


def test_exact_matches_are_tested() -> None:
    """As McNemar's test has it, up to the number of exchanges."""
    ours, theirs = torch.zeros(40).double(), torch.zeros(40).double()
    ours[:9], theirs[9:11] = 1, 1
    expected = difference(classifier(ours), classifier(theirs)).accuracy_p
    assert difference(sums(ours), sums(theirs)).of("exact_match").p == pytest.approx(expected, abs=0.02)


def test_nothing_is_known_of_what_is_no_number() -> None:
    """A model that fails is not significantly different."""
    good = torch.linspace(0, 1, 20).double()
    bad = good.clone()
    bad[3] = torch.nan
    scored = [
        replace(sums(values), scores={"cosine": Score((values, torch.ones(20)), ratio)}) for values in (good, bad)
    ]
    found = difference(*scored)
    assert [isnan(found.of(measure).p) for measure in ("accuracy", "loss", "cosine")] == [True] * 3


def test_of_one_sample_nothing_is_known() -> None:
    one = classifier(torch.ones(1))
    assert (intervals(one).accuracy, intervals(one).loss) == (None, None)
    assert difference(one, classifier(torch.zeros(1))).loss_p == 1


def test_scores_are_resampled_and_swapped() -> None:
    """A metric of counts, as F1 is: alone better on every sample it differs in, it is not by chance."""
    right = torch.arange(60).remainder(3).clamp_max(1).double()
    gold = torch.ones(60).double()
    better, worse = (
        replace(classifier(correct), scores={"micro_f1": Score((correct, gold, gold), f1)}) for correct in (gold, right)
    )
    assert intervals(better).scores["micro_f1"] == (1, 1)
    low, high = intervals(worse).interval("micro_f1")
    assert low < float(right.mean()) < high
    change = difference(better, worse).of("micro_f1")
    assert change.value == pytest.approx(1 - float(right.mean()))
    assert change.interval[0] > 0
    assert change.p < 0.001
    assert difference(worse, worse).of("micro_f1").p == 1


def test_losses_near_zero_are_rounded_unless_labels_may_be_small() -> None:
    error = torch.linspace(1e-9, 1e-7, 30).double()
    better, worse = (replace(sums(torch.zeros(30).double()), loss=loss) for loss in (error, 2 * error))
    models, classes = {"a": better, "b": worse}, {"a": {}, "b": {}}
    for measures in (("loss",), ("cosine", "distance"), ("squared_difference",)):
        assert evaluation(models, classes, measures).against["b"].loss_p == 1
    found = evaluation(models, classes, ("squared_error",)).against["b"]
    assert found.loss == pytest.approx(-float(error.mean()))
    assert found.loss_p < 0.001


def test_rounding_is_no_difference() -> None:
    right = torch.ones(20)
    loss = torch.linspace(0.001, 3, 20).double()
    computed_otherwise = difference(classifier(right, loss * (1 + 5e-5) + 5e-7), classifier(right, loss))
    assert computed_otherwise.loss == 0
    assert computed_otherwise.loss_interval == (0, 0)
    assert computed_otherwise.loss_p == 1
    better = difference(classifier(right, loss * (1 - 1e-3)), classifier(right, loss))
    assert better.loss < 0
    assert better.loss_p < 0.01
