"""What a user is told about a fine-tune that was carried to another base."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transfuse.base.counted import counted
from transfuse.base.printable import printable
from transfuse.report.facts import Measurement
from transfuse.report.tables import adapter_line, left_out_line, of_split

NOTHING_GAINED = ", training gained nothing"
MIN_GAIN = 1e-9  # a smaller gain of tuning has no share


def carried_verdict(measured: Measurement) -> str:
    """Return how the carried model compares with the tuned model and the new base.

    The share of the gain is the gain of the carried model over the new base, divided by that of the tuned model over
    its base, by the headline metric. For language models, both gains are in nats of loss, not in perplexity.
    """
    new_base, base, tuned = measured.of("parent")
    (carried,) = measured.of("fusion")
    named = {
        name: measured.phrase(row) for name, row in (("carried", carried), ("tuned", tuned), ("new base", new_base))
    }
    if not measured.labeled:
        return f"Without labels, the carried model reaches {named['carried'].replace('parents', 'tuned model')}."
    text = f"The carried model reaches {named['carried']}, and the tuned model {named['tuned']}"
    measure = "loss" if measured.headline == "perplexity" else measured.headline
    gain = measured.quality(tuned, measure) - measured.quality(base, measure)
    if not measured.bases_predict:
        return text + "."
    if gain < MIN_GAIN:
        reached = measured.phrase(base)
        return f"{text}. Its base reaches {reached} here, so tuning gained nothing; check the order of BASE and TUNED."
    share = (measured.quality(carried, measure) - measured.quality(new_base, measure)) / gain
    return f"{text}. That is {share:.0%} of what tuning gained; the new base alone reaches {named['new base']}."


def carry_summary(output: Path | str, record: Mapping[str, Any]) -> str:
    """Return lines on a carried fine-tune: where it is, how it was made, how long that took, and how good it is."""
    roles = record["carried"]
    samples = counted(record["calibration_samples"], "sample") + of_split(record.get("calibration_split"))
    counts = [samples] if record["calibration_samples"] else []
    if kept := record["kept_samples"]:
        counts.append(f"{kept} to keep{of_split(record.get('keep_split'))}")
    how = "by weights"
    if counts:
        how = f"{'taught on' if record['options']['align'] == 'none' else 'layers fitted to'} {' and '.join(counts)}"
    history = record.get("learned_weights")
    if history and history["steps"]:
        how += f", weights trained in {counted(history['best'], 'step')}" if history["best"] else NOTHING_GAINED
    line = f"Carried {roles['tuned']} to {roles['new base']}, into {output} ({how}, {record['seconds']:.1f} s)"
    made = f"{printable(line)}{adapter_line(output, record)}{left_out_line(record)}"
    return f"{made}\n{printable(record['quality']['verdict'])}"
