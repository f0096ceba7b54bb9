"""Tables show every value, whole."""

import io

import pytest
from rich.console import Console, RenderableType

from transfuse.evaluation.comparison import Evaluation, ModelEvaluation
from transfuse.evaluation.evaluate import LossPath
from transfuse.evaluation.measures import phrase
from transfuse.evaluation.metrics import ClassReport, Metrics
from transfuse.evaluation.statistics import Difference, Intervals
from transfuse.report.cells import metric_interval, metric_value
from transfuse.report.evaluation_tables import evaluation_tables, path_table
from transfuse.report.tables import fusion_summary


def shown(table: RenderableType, width: int = 1000) -> str:
    stream = io.StringIO()
    Console(file=stream, width=width).print(table)
    return stream.getvalue()


def measured(**models: Metrics) -> Evaluation:
    sure = Intervals((0.4, 0.6), (1.2, 1.3))
    classes = {"[cat]": ClassReport(0.25, 0.5, 1 / 3, 4)}
    found = {name: ModelEvaluation(metrics, sure, classes) for name, metrics in models.items()}
    apart = Difference(-0.5, (-0.6, -0.4), 0.0312, 1.25, (1.2, 1.3), 1 / 2001)
    return Evaluation(found, dict.fromkeys(list(found)[1:], apart), ("accuracy", "loss"))


def test_every_model_is_a_row() -> None:
    found = measured(**{"a": Metrics(0.5, 1.25, 8, 0.125), "[b]": Metrics(1.0, 0.0, 9)})
    text = shown(evaluation_tables(found))
    assert all(each in text for each in ("a", "50.00%", "1.2500", "8", "12.50%", "[b]", "100.00%", "0.0000", "9"))
    assert all(each in text for each in ("[40.0, 60.0]", "[1.200, 1.300]"))
    assert all(
        each in text for each in ("-50.00%", "[-60.0, -40.0]", "0.031", "+1.2500", "[+1.200, +1.300]", "< 0.001")
    )
    assert "[cat]" not in text
    assert "[cat]" in shown(evaluation_tables(found, classes=True))


def test_a_long_name_is_folded_not_cut() -> None:
    name = "/a/" + "j" * 100
    text = shown(evaluation_tables(measured(**{name: Metrics(0.5, 1.25, 8)})), 80)
    assert text.count("j") == 100
    assert "50.00%" in text
    assert "…" not in text


def test_a_path_ends_with_its_barrier() -> None:
    line = LossPath((0.0, 0.5, 1.0), (Metrics(0.9, 0.1, 8), Metrics(0.2, 2.0, 8), Metrics(0.8, 0.3, 8)), 1.8)
    text = shown(path_table(line, "digits (split test)"))
    assert [text.index(each) for each in ("0.00", "0.50", "1.00", "barrier 1.8000")] == sorted(
        text.index(each) for each in ("0.00", "0.50", "1.00", "barrier 1.8000")
    )
    assert all(each in text for each in ("90.00%", "2.0000", "80.00%"))


def test_a_barrier_of_rounding_is_zero() -> None:
    """Not one in squared errors, whose size depends on the data."""
    line = LossPath((0.0, 1.0), (Metrics(0.9, 9.8e-8, 8), Metrics(0.8, 0.3, 8)), 9.8e-8)
    text = shown(path_table(line, "digits"))
    assert ("e-08" in text, "barrier 0.0000 nats" in text) == (False, True)
    scores = {"pearson": 1.0, "spearman": 1.0}
    points = tuple(Metrics(0.0, error, 8, scores=scores) for error in (1.2e-8, 2.3e-8))
    line = LossPath((0.0, 1.0), points, 9.8e-8, ("pearson", "spearman", "squared_error"))
    assert all(each in shown(path_table(line, "digits")) for each in ("1.2e-08", "barrier 9.8e-08\n"))


def test_huge_and_missing_values_are_short() -> None:
    found = measured(a=Metrics(0.5, 2.125e37, 8), b=Metrics(float("nan"), float("nan"), 8))
    text = shown(evaluation_tables(found))
    assert "2.1e+37" in text
    assert "nan%" not in text
    assert "nan" in text


def test_a_summary_is_one_line() -> None:
    record = {"models": [1, 2, 3], "match_on": "both", "calibration_samples": 20, "options": {"align": "exact"}, "seconds": 1.26}  # fmt: skip # noqa: E501
    assert (
        fusion_summary("an\nout", record)
        == "Fused 3 models into an out (align exact, matched on both, 20 samples, 1.3 s)"
    )
    record |= {"calibration_samples": 0, "match_on": "weights"}
    assert "matched on weights, 1.3 s" in fusion_summary("out", record)
    record["options"] = {"align": "none"}
    assert fusion_summary("out", record).endswith("(align none, 1.3 s)")


@pytest.mark.parametrize(("start", "fitted"), [("model 2", False), ("fitted layers", True)])
def test_fitted_layers_that_lost_are_not_said_to_be_in_the_result(start: str, fitted: bool) -> None:
    history = {"start": start, "steps": 20, "best": 20, "excess": [0.2, 0.1]}
    record = {"models": [1, 2], "match_on": "weights", "calibration_samples": 20, "options": {"align": "exact"}, "seconds": 1.26}  # fmt: skip # noqa: E501
    summary = fusion_summary("out", record | {"least_squares": {}, "learned_weights": history})
    assert ("layers fitted by least squares" in summary) == fitted
    assert f"weights learned in 20 steps from {start}" in summary


def test_an_interval_has_the_digits_of_its_value() -> None:
    found = {measure: metric_interval((0.5, 2.0), measure) for measure in ("perplexity", "loss", "accuracy")}
    assert found == {"perplexity": "[0.5, 2.0]", "loss": "[0.500, 2.000]", "accuracy": "[50.0, 200.0]"}
    assert metric_interval(None, "loss") == ""


def test_zero_has_no_sign() -> None:
    assert phrase("pearson", -1e-14) == "a Pearson correlation of 0.000"
    assert (metric_value(-1e-14, "loss"), metric_value(-1e-14, "loss", "+")) == ("0.000", "+0.000")
    assert phrase("squared_error", 2e-6) == "a mean squared error of 2e-06"
    assert phrase("loss", 1234567.0) == "a loss of 1.2e+06"
    assert phrase("loss", 999999.0, -2e9) == "a loss of 999999.000 and -2e+09"
