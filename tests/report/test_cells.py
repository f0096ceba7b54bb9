"""Values and intervals of metrics, as the page shows them."""

from math import nan

from transfuse.report.cells import metric_interval, metric_value


def test_a_share_is_a_percentage_as_in_the_verdict() -> None:
    assert metric_value(1 / 3, "accuracy") == "33.3%"
    assert metric_value(1 / 3, "accuracy", "+") == "+33.3%"
    assert metric_value(1.25, "loss") == "1.250"
    assert metric_value(12.34, "perplexity") == "12.3"
    assert metric_value(nan, "loss") == ""


def test_the_interval_of_a_difference_has_signs() -> None:
    assert metric_interval((-0.6, 0.4), "accuracy", "+") == "[-60.0, +40.0]"
    assert metric_interval((0.2, 1.3), "loss", "+") == "[+0.200, +1.300]"
    assert metric_interval((0.3, 0.4), "accuracy") == "[30.0, 40.0]"
    assert metric_interval(None, "accuracy") == ""
