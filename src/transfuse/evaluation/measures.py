"""The names of metrics: how tables, reports and sentences show them, and which of them a model is judged by."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

from transfuse.base.shown_number import ROUNDING, shown_number

NEAR_ZERO = 1e-6  # up to which rounding explains a loss, or a difference of losses, for each prediction


@dataclass(frozen=True)
class Measure:
    """How a metric is shown.

    Attributes:
        title: of a column.
        form: format of its values. Shares are percentages.
        phrase: a sentence's words for a value, which stands at `{}`.
        attribute: field of `Metrics` that has the value; None: it is one of `Metrics.scores`.
        lower_is_better: whether a better model has a lower value.
    """

    title: str
    form: str
    phrase: str
    attribute: str | None = None
    lower_is_better: bool = False

    @property
    def digits(self) -> str:
        """Return the format of a value in a sentence or a report, which has one digit less than in a table."""
        return f".{int(self.form[1]) - 1}{self.form[2]}"


MEASURES = {
    "accuracy": Measure("accuracy", ".2%", "{} accuracy", "accuracy"),
    "loss": Measure("loss", ".4f", "a loss of {}", "loss", True),
    "perplexity": Measure("perplexity", ".2f", "a perplexity of {}", "perplexity", True),
    "bits_per_byte": Measure("bits/byte", ".4f", "{} bits per byte", None, True),
    "calibration_error": Measure("ECE", ".2%", "a calibration error of {}", "calibration_error", True),
    "pearson": Measure("Pearson", ".4f", "a Pearson correlation of {}"),
    "spearman": Measure("Spearman", ".4f", "a Spearman correlation of {}"),
    "squared_error": Measure("MSE", ".4f", "a mean squared error of {}", "loss", True),
    "micro_f1": Measure("micro F1", ".2%", "a micro F1 of {}"),
    "macro_f1": Measure("macro F1", ".2%", "a macro F1 of {}"),
    "entity_f1": Measure("F1", ".2%", "an F1 of {} over entities"),
    "answer_f1": Measure("F1", ".2%", "an F1 of {} over answers"),
    "exact_match": Measure("exact match", ".2%", "{} exact matches", "accuracy"),
    "agreement": Measure("agreement", ".2%", "{} agreement with the parents", "accuracy"),
    "divergence": Measure("KL", ".4f", "a divergence of {} nats from the parents", "loss", True),
    "squared_difference": Measure(
        "squared difference", ".4f", "a mean squared difference of {} from the parents", "loss", True
    ),
    "recall_1": Measure("recall@1", ".2%", "a recall@1 of {}", "accuracy"),
    "image_recall_1": Measure("of texts@1", ".2%", "a recall@1 of texts of {}"),
    "image_recall_5": Measure("of texts@5", ".2%", "a recall@5 of texts of {}"),
    "text_recall_1": Measure("of images@1", ".2%", "a recall@1 of images of {}"),
    "text_recall_5": Measure("of images@5", ".2%", "a recall@5 of images of {}"),
    "cosine": Measure("cosine", ".4f", "a mean cosine of {} with the outputs of the parents"),
    "similarity": Measure("similarity", ".4f", "a correlation of similarities of {}"),
    "distance": Measure("1 - cosine", ".4f", "a distance of {}", "loss", True),
}
IN_NATS = ("loss", "divergence")


def headline(measures: Sequence[str]) -> str:
    """Return the metric that a model is judged by: perplexity, or the first."""
    return "perplexity" if "perplexity" in measures else measures[0]


def unit(measures: Sequence[str]) -> str:
    """Return what the predictions are counted in."""
    if "perplexity" in measures:
        return "tokens"
    return "words" if "entity_f1" in measures else "samples"


def has_confidence(measures: Sequence[str]) -> bool:
    """Return whether models give probabilities of single answers, so that their calibration is measured."""
    return measures[0] == "accuracy"


def loss_unit(measures: Sequence[str]) -> str:
    """Return the unit of the loss with a space before it; empty if it has none."""
    return " nats" if any(measure in IN_NATS for measure in measures) else ""


def loss_measure(measures: Sequence[str]) -> str:
    """Return the name of the loss among the metrics."""
    return next(measure for measure in measures if MEASURES[measure].attribute == "loss")


def rounds_near_zero(measures: Sequence[str]) -> bool:
    """Return whether losses near zero differ by rounding. Squared errors of labels may be small, as the labels are."""
    return "squared_error" not in measures


def shown_value(value: float, measure: str, form: str) -> str:
    """Return a value, or a difference, of a metric in a format. What rounding explains is shown as zero."""
    return shown_number(value, form, NEAR_ZERO if measure in IN_NATS else ROUNDING)


def are_equal(measure: str, first: float, second: float) -> bool:
    """Return whether two values look the same in a sentence; losses in nats, by the digits of its format alone."""
    zero = inf if measure in IN_NATS else ROUNDING
    shown, other = (shown_number(value, MEASURES[measure].digits, zero) for value in (first, second))
    return shown == other


def phrase(measure: str, *values: float) -> str:
    """Return a sentence's words for a value, or for several: a perplexity of 65.0 and 64.6."""
    shown = MEASURES[measure]
    return shown.phrase.format(" and ".join(shown_value(value, measure, shown.digits) for value in values))
