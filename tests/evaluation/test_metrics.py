"""What is counted of a model's answers."""

from math import exp, log

import pytest
import torch

from transfuse.errors import DataError
from transfuse.evaluation.log_probabilities import predictions

RIGHT, WRONG = (log(0.75), log(0.25)), (log(0.25), log(0.75))


def test_metrics_by_hand() -> None:
    found = predictions(lambda batch: torch.tensor([WRONG, RIGHT]), [{"labels": torch.tensor([1, 1])}])
    metrics = found.metrics()
    assert (metrics.accuracy, metrics.samples) == (0.5, 2)
    assert metrics.loss == pytest.approx((log(4 / 3) + log(4)) / 2)
    assert metrics.perplexity == pytest.approx(exp(metrics.loss))
    assert metrics.calibration_error == pytest.approx(0.25)  # sure at 0.75, right half the time


def test_who_is_as_sure_as_right_is_calibrated() -> None:
    batches = [{"labels": torch.tensor([0, 0])}, {"labels": torch.tensor([0, 1])}]
    assert predictions(lambda batch: torch.tensor([RIGHT, RIGHT]), batches).metrics().calibration_error < 1e-7


def test_a_confidence_of_one_has_its_bin() -> None:
    metrics = predictions(lambda batch: torch.tensor([[0.0, -800.0]]), [{"labels": torch.tensor([1])}]).metrics()
    assert (metrics.calibration_error, metrics.loss, metrics.accuracy) == (1.0, 800.0, 0.0)


def test_classes_by_hand() -> None:
    said = torch.tensor([RIGHT, RIGHT, WRONG, WRONG])
    found = predictions(lambda batch: said, [{"labels": torch.tensor([0, 1, 1, 1])}]).class_reports({0: "cat"})
    assert list(found) == ["cat", "1"]
    assert (found["cat"].precision, found["cat"].recall, found["cat"].support) == (0.5, 1.0, 1)
    assert found["cat"].f1 == pytest.approx(2 / 3)
    assert (found["1"].precision, found["1"].recall, found["1"].support) == (1.0, pytest.approx(2 / 3), 3)


def test_words_of_a_text_count_together() -> None:
    labels = torch.tensor([[-100, 0, 1], [0, -100, -100], [-100, -100, -100]])
    found = predictions(lambda batch: torch.tensor([RIGHT, RIGHT, WRONG]), [{"labels": labels}])
    assert found.correct.tolist() == [1, 0, 0]
    assert found.counts.tolist() == [2, 1, 0]
    assert found.loss.tolist() == pytest.approx([log(4 / 3) + log(4), log(4), 0])
    assert found.metrics().samples == 3
    assert found.class_reports({}) == {}


def test_where_nothing_is_asked_nothing_is_measured() -> None:
    with pytest.raises(DataError, match="nothing to measure"):
        predictions(lambda batch: torch.zeros(0, 2), [{"labels": torch.full((2, 3), -100)}])
    with pytest.raises(DataError, match="nothing to measure"):
        predictions(lambda batch: torch.zeros(0, 2), [])
