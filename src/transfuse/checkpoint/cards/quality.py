"""The part of a model card that says how good the model is: a section of text, and fields that the Hub reads."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, nan
from typing import Any

from huggingface_hub import EvalResult
from huggingface_hub.repocard_data import eval_results_to_model_index

from transfuse.checkpoint.cards.front_matter import with_fields
from transfuse.checkpoint.cards.markdown import MARKDOWN

BEGIN = "<!-- measured by transfuse: begin -->"
END = "<!-- measured by transfuse: end -->"
UNINDEXED = ("loss", "samples", "calibration_error")  # values that are not metrics of the Hub
DIGITS = 4  # of a value in model-index, after the decimal point
SECTION = MARKDOWN.from_string("""\
{{ begin }}
## Quality

{% if quality %}
{% if quality.note %}
{{ quality.note }}

{% endif %}
| |{% for name in columns %} {{ name | replace("_", " ") | text }} |{% endfor %}

|---|{{ "---|" * (columns | length) }}
{% for label, values in quality.rows.items() %}
| {{ label | text }} |{% for name in columns %} {{ values.get(name) | number }} |{% endfor %}

{% endfor %}
{% if quality.verdict %}

{{ quality.verdict }}
{% endif %}
{% else %}
Not measured yet. `transfuse {{ command or "eval" }}` measures the model beside {{ reference }}\
{{ " and writes the result here" if command }}.
{% endif %}

{{ end }}
""")


@dataclass(frozen=True)
class MeasuredValues:
    """Values of the model on one set of samples.

    Attributes:
        data: the name of the data.
        values: the values by the name of the metric.
        dataset: the name of the data on the Hub, if they are from there.
        split: the split that was measured; None if the data have no splits.
        samples: how many the values are means over; None if it is unknown.
        unit: what was counted, samples or tokens.
    """

    data: str
    values: Mapping[str, float]
    dataset: str | None = None
    split: str | None = None
    samples: int | None = None
    unit: str = "samples"


@dataclass(frozen=True)
class Quality:
    """Measurements of the model, and of others beside it.

    Attributes:
        rows: values by the name of the metric, of every row of the table by its label.
        results: the measurements of the model alone.
        note: a paragraph above the table, as Markdown.
        verdict: a paragraph below it, as Markdown.
    """

    rows: Mapping[str, Mapping[str, float]]
    results: Sequence[MeasuredValues]
    note: str = ""
    verdict: str = ""


def given_quality(metrics: Mapping[str, Mapping[str, float]]) -> Quality:
    """Return measurements of the model alone, given by the name of the data."""
    results = [
        MeasuredValues(label, values, samples=None if values.get("samples") is None else int(values["samples"]))
        for label, values in metrics.items()
    ]
    return Quality(metrics, results)


def quality_section(quality: Quality | None, command: str | None = "report", reference: str = "its parents") -> str:
    """Return the section as Markdown, between two comments by which `with_quality` finds it again.

    Args:
        command: the command that measures the model; None: there is none that writes the section.
        reference: the models that it is measured beside.
    """
    columns = list(dict.fromkeys(name for values in quality.rows.values() for name in values)) if quality else []
    return SECTION.render(begin=BEGIN, end=END, quality=quality, columns=columns, command=command, reference=reference)


def quality_fields(name: str, task: str | None, quality: Quality | None) -> dict[str, Any]:
    """Return the fields `metrics` and `model-index` of the front matter; None where there is nothing to say.

    Args:
        name: the name of the model.
        task: the task on the Hub, such as image-classification; None leaves the model out of `model-index`.
    """
    results = quality.results if quality else ()
    metrics = list(dict.fromkeys(name for result in results for name in result.values if name not in UNINDEXED))
    entries = [
        EvalResult(
            task_type=task,
            dataset_type=result.dataset or result.data,
            dataset_name=result.data,
            dataset_split=result.split,
            dataset_args=None if result.samples is None else {result.unit: result.samples},
            metric_type=metric,
            metric_value=round(result.values[metric], DIGITS),
        )
        for result in results
        for metric in metrics
        if task and isfinite(result.values.get(metric, nan))
    ]
    index = eval_results_to_model_index(name, entries) if entries else None
    return {"metrics": metrics or None, "model-index": index}


def with_quality(card: str, name: str, task: str | None, quality: Quality) -> str | None:
    """Return a card with another section and other fields on quality. Everything else stays as it was written.

    Returns:
        The card; None if its section or its front matter has been removed.
    """
    before, begin, rest = card.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end or BEGIN in after or END in after:
        return None
    section = quality_section(quality).rstrip("\n")
    return with_fields(f"{before}{section}{after}", quality_fields(name, task, quality))
