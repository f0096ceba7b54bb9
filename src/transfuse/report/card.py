"""The measurements of a report in the form that the model card shows."""

from collections.abc import Mapping
from dataclasses import asdict
from math import isnan, nan
from typing import Any

from transfuse.checkpoint.cards.card import short_data_name
from transfuse.checkpoint.cards.markdown import code, data_and_split
from transfuse.checkpoint.cards.processor_sentences import processor_sentences
from transfuse.checkpoint.cards.quality import MeasuredValues, Quality
from transfuse.checkpoint.reading.hub_names import hub_name
from transfuse.evaluation.measures import IN_NATS, NEAR_ZERO, loss_unit
from transfuse.report.facts import Measurement, Row
from transfuse.report.names import reference_words, row_labels

THIS_MODEL = "this model"


def report_quality(measured: Measurement, verdict: str, record: Mapping[str, Any]) -> Quality:
    """Return the measurements of the fused model, first, and of the models beside it.

    Those on samples that were also used for the fusion are not results for the Hub, and stand in the text alone.

    Args:
        verdict: how the fused model compares with the others.
        record: the content of `transfuse.json`.
    """
    (fusion,) = measured.of("fusion")
    labels = row_labels(measured)
    others = [row for row in measured.rows if row is not fusion]
    rows = {THIS_MODEL: _values(measured, fusion)} | {labels[row.name]: _values(measured, row) for row in others}
    source = measured.source
    samples = fusion.metrics.samples
    use = "shrinking" if "shrunk" in record else "the fusion"
    also = f", which were also used for {use}" if measured.calibrated else ""
    note = f"Measured on {measured.amount} of {data_and_split(short_data_name(source), measured.split)}{also}."
    if not measured.labeled:
        note += f" They have no labels, so the models are compared with {reference_words(record)}."
    if loss_unit(measured.measures):
        note += " The loss is in nats."
    if "other_processors" not in record:  # or else the card says so at the models
        processors = [asdict(processor) for processor in measured.other_processors]
        if processors:
            note = " ".join([note, *processor_sentences(processors, record["models"], code)])
    values = _values(measured, fusion)
    result = MeasuredValues(
        short_data_name(source), values, hub_name(source, record["directory"]), measured.split, samples, measured.unit
    )
    return Quality(rows, [result] if measured.labeled and not measured.calibrated else [], note, verdict)


def _values(measured: Measurement, row: Row) -> dict[str, float]:
    """Return the values of a row that are numbers. A loss that rounding explains is zero, as in tables."""
    values = {name: row.metrics.value(name) for name in measured.measures}
    zeros = {name: 0.0 for name in IN_NATS if abs(values.get(name, nan)) <= NEAR_ZERO}
    return {name: value for name, value in (values | zeros).items() if not isnan(value)}
