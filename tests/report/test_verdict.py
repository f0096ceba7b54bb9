"""A verdict says where the fusion stands, and what to do."""

from dataclasses import replace

from transfuse.evaluation.metrics import Metrics
from transfuse.evaluation.statistics import Difference, Intervals, ScoreDifference
from transfuse.report.carried import carried_verdict
from transfuse.report.facts import Measurement, Role, Row
from transfuse.report.measure import part_of_anchor
from transfuse.report.verdict import UNMEASURED, controls_note, verdict

SURE = Intervals((0, 1), (0, 1))
APART, SAME = (0.01, 0.02), (-0.01, 0.02)


def row(name: str, role: Role, accuracy: float, loss: float = 1.0) -> Row:
    return Row(name, role, Metrics(accuracy, loss, 100), SURE, 0.0)


def measured(fusion: Row, plain: Row | None = None, interval=APART, measures=("accuracy", "loss")) -> Measurement:
    parents = [row("a", "parent", 0.5, 2.0), row("b", "parent", 0.6, 1.0)]
    apart = Difference(0, interval, 1, 0, interval, 1)
    return Measurement([*parents, *([plain] if plain else []), fusion], {"a": apart, "b": apart}, {}, measures)


def test_between_its_parents() -> None:
    said = verdict(measured(row("fusion", "fusion", 0.55), row("plain average", "control", 0.1)))
    assert said == (
        "The fused model reaches 55.0% accuracy, between its parents (50.0% and 60.0% accuracy)."
        " The plain average reaches 10.0% accuracy."
    )


def test_a_parent_itself_is_not_between_its_parents() -> None:
    assert verdict(measured(row("f", "fusion", 0.5))).endswith("no better than the weaker parent (50.0% accuracy).")
    assert verdict(measured(row("f", "fusion", 0.6))).endswith("as good as the best parent (60.0% accuracy).")


def test_below_the_weaker_parent_it_is_to_be_fine_tuned() -> None:
    assert "below the weaker parent (50.0% accuracy); fine-tuning may help" in verdict(
        measured(row("f", "fusion", 0.45))
    )
    unsure = verdict(measured(row("f", "fusion", 0.49), interval=SAME))
    assert "below the weaker parent (50.0% accuracy); the difference is within sampling error" in unsure
    assert "fine-tune" not in unsure


def test_above_the_best_parent() -> None:
    assert verdict(measured(row("f", "fusion", 0.7))).endswith("above the best parent (60.0% accuracy).")
    assert "within sampling error" in verdict(measured(row("f", "fusion", 0.61), interval=SAME))


def test_no_better_than_the_average() -> None:
    said = verdict(measured(row("f", "fusion", 0.4), row("plain average", "control", 0.4)))
    assert "the plain average (40.0% accuracy) is as good, so the alignment gained nothing here." in said


def test_the_average_may_be_better() -> None:
    said = verdict(measured(row("f", "fusion", 0.4), row("plain average", "control", 0.55)))
    assert said.endswith("; the plain average (55.0% accuracy) is better, so the alignment gained nothing here.")


def test_the_loss_decides_between_equal_accuracies() -> None:
    better, worse = row("f", "fusion", 0.4, 0.5), row("plain average", "control", 0.40001, 0.625)
    assert verdict(measured(better, worse)).endswith(
        ". The plain average also reaches 40.0% accuracy, but with a loss of 0.625 instead of a loss of 0.500."
    )
    swapped = measured(replace(worse, role="fusion", name="f"), replace(better, role="control", name="plain average"))
    assert verdict(swapped).endswith(
        "; the plain average also reaches 40.0% accuracy, with a loss of 0.500 instead of a loss of 0.625, so the"
        " alignment gained nothing here."
    )


def test_without_labels_divergence_ranks() -> None:
    """With two parents, each agrees with itself, so that no model can agree more with both on average."""
    found = measured(row("f", "fusion", 0.55, 0.25), measures=("agreement", "divergence"))
    assert verdict(replace(found, labeled=False)) == (
        "Without labels, the fused model reaches a divergence of 0.250 nats from the parents, better than the best"
        " parent (a divergence of 1.000 nats from the parents)."
    )


def test_rounding_ranks_no_model() -> None:
    """Whatever rounding does to divergences in nats; squared differences have no unit."""
    for measure, said in (("divergence", "as good as the best parent"), ("squared_difference", "worse than the")):
        parents = [row(name, "parent", 1.0, 3.8e-6) for name in "ab"]
        found = measured(row("f", "fusion", 1.0, 1.1e-5), measures=(measure,))
        assert said in verdict(replace(found, rows=[*parents, found.rows[-1]], labeled=False))


def test_what_has_no_score_is_not_ranked() -> None:
    nan = float("nan")
    assert verdict(measured(row("fusion", "fusion", nan, nan))) == (
        "The fused model cannot be ranked, because some outputs are not numbers. Models without scores: fusion."
    )
    said = verdict(measured(row("f", "fusion", 0.55), row("plain average", "control", nan, nan)))
    assert said.endswith(". The plain average has no score, because some outputs are not numbers.")


def test_what_was_not_aligned_did_not_gain_nothing_by_alignment() -> None:
    found = measured(row("f", "fusion", 0.4), row("plain average", "control", 0.4))
    assert verdict(replace(found, aligned=False)).endswith("is as good, so this way of merging gained nothing here.")


def test_a_high_perplexity_is_worse_and_not_below() -> None:
    measures = ("perplexity", "accuracy", "loss")
    assert "worse than the weaker parent (a perplexity of 7.4)" in verdict(
        measured(row("f", "fusion", 0.9, 2.5), measures=measures)
    )
    assert "better than the best parent (a perplexity of 2.7)" in verdict(
        measured(row("f", "fusion", 0.1, 0.5), measures=measures)
    )


def test_language_models_are_judged_by_loss() -> None:
    """Whatever their accuracy."""
    found = measured(row("f", "fusion", 0.9, 1.5), measures=("accuracy", "loss", "perplexity"))
    assert verdict(found) == (
        "The fused model reaches a perplexity of 4.5, between its parents (a perplexity of 7.4 and 2.7)."
    )


def test_nothing_measured() -> None:
    assert verdict(None) == UNMEASURED


def test_each_kind_is_judged_by_its_first_metric() -> None:
    def scored(role: Role, f1: float) -> Row:
        return Row(role, role, Metrics(0.5, 1.0, 100, scores={"entity_f1": f1}), SURE, 0.0)

    apart = Difference(0, None, None, 0, None, 1, {"entity_f1": ScoreDifference(0.1, APART, 0.01)})
    rows = [scored("parent", 0.5), Row("b", "parent", scored("parent", 0.6).metrics, SURE, 0.0), scored("fusion", 0.7)]
    found = Measurement(rows, {"parent": apart, "b": apart}, {}, ("entity_f1", "accuracy", "loss"))
    assert verdict(found) == (
        "The fused model reaches an F1 of 70.0% over entities, above the best parent (an F1 of 60.0% over entities)."
    )
    compared = replace(found, labeled=False, rows=[*rows[:2], scored("fusion", 0.1)])
    assert verdict(compared) == (
        "Without labels, the fused model reaches an F1 of 10.0% over entities,"
        " below the weaker parent (an F1 of 50.0% over entities)."
    )


def test_only_controls_that_were_measured_are_explained() -> None:
    fusion, plain = row("fusion", "fusion", 0.55), row("plain average", "control", 0.1)
    fitted = {"options": {"align": "exact"}, "merge": "mean"}
    assert controls_note(measured(fusion, plain), fitted) == (
        "A fusion is useful if it is better than its control. The plain average does not match the units."
    )
    found = measured(fusion, row("uniform plan", "control", 0.1))
    found = replace(found, rows=[*found.rows, row(part_of_anchor(0.5), "control", 0.1)])
    assert controls_note(found, fitted | {"options": {"align": "none"}}) == (
        "This fusion is a plain average. A fusion is useful if it is better than its controls."
        " The uniform plan ignores the units. Half the anchor ignores the other models."
    )
    assert controls_note(measured(fusion), fitted) == ""
    third = measured(fusion, row(part_of_anchor(1 / 3), "control", 0.1))
    assert controls_note(third, fitted).endswith("its control. 33% of the anchor ignores the other models.")


def test_the_share_of_a_gain_is_in_nats() -> None:
    losses = {"new base": 3.0, "base": 3.2, "tuned": 2.2}
    parents = [row(name, "parent", 0.5, loss) for name, loss in losses.items()]
    measures = ("accuracy", "loss", "perplexity")
    said = carried_verdict(Measurement([*parents, row("f", "fusion", 0.5, 2.5)], {}, {}, measures))
    assert said.startswith("The carried model reaches a perplexity of 12.2")
    assert "That is 50% of what tuning gained" in said
