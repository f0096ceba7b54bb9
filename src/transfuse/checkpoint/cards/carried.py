"""The model card of a fine-tune that was carried to another base."""

from collections.abc import Mapping
from typing import Any

from transfuse.base.short_names import short_names
from transfuse.checkpoint.cards.card_fields import header_fields
from transfuse.checkpoint.cards.front_matter import as_front_matter
from transfuse.checkpoint.cards.markdown import MARKDOWN, code
from transfuse.checkpoint.cards.parents import differing_licenses
from transfuse.checkpoint.cards.processor_sentences import processor_sentences
from transfuse.checkpoint.cards.quality import given_quality, quality_section
from transfuse.checkpoint.record.command import carry_call

CARD = MARKDOWN.from_string("""\
---
{{ header }}---

# {{ name | text }}

What {{ names[2] | code }} learned over its base {{ names[1] | code }}, carried to {{ names[0] | code }} \
with transfuse.

{% for line in processors %}
{{ line }}

{% endfor %}
{% if differing %}
**The licenses of these models differ.** The license of this card is that of the new base. Check that the licenses \
permit a combined model before you share it.

{% endif %}
## How it was made

{% if options.align == "none" %}
* The base cannot get the widths of the new base without changing its function, so nothing was aligned. All weights of \
the new base were trained to the predictions of the tuned model\
{{ " and, on samples to keep, of the new base" if kept_samples }}, for \
{{ learned_weights.best | counted("step") }}.
{% else %}
{% if resized %}
* The base and the tuned model got the sizes of the new base without a change of their functions.
{% endif %}
* The units of the base were matched with those of the new base by the exact symmetries of their architecture, on \
their {{ "activations and weights" if match_on == "both" else match_on }}. The tuned model followed by the same maps.
{% endif %}
{% if least_squares %}
* Each layer was fitted by least squares to what the new base computes plus the change that tuning made, and the head \
to the predictions of the tuned model.
{% if learned_weights and learned_weights.best %}
* All weights were then trained to the same targets, for {{ learned_weights.best | counted("step") }}.
{% endif %}
{% endif %}
{% if data %}
* Samples: {{ "{:,}".format(calibration_samples) }} of {{ data | data_and_split(calibration_split) }}.
{% if kept_samples %}
* Samples on which the new base was kept as it is: {{ "{:,}".format(kept_samples) }} of \
{{ keep | data_and_split(keep_split) }}.
{% endif %}
{% else %}
* The difference between the weights of both was added to the new base. No samples were used.
{% endif %}

{{ quality }}
{{ call | call_section }}

Hashes of the inputs, all options, and diagnostics of every aligned space are in `transfuse.json`.
""")


def carried_card(name: str, record: Mapping[str, Any]) -> str:
    """Return the card of a carried fine-tune.

    Args:
        name: the name of the checkpoint's folder.
        record: the content of its `transfuse.json`.
    """
    models = record["models"]
    quality = given_quality(record["metrics"]) if record.get("metrics") else None
    header = header_fields(models[:1], "finetune", ["transfuse", "carried"], record, models[-1])
    values = {
        "name": name,
        "names": [
            found or "a model passed in memory" for found in short_names([each["path"] or "" for each in models])
        ],
        "header": as_front_matter(header),
        "differing": differing_licenses(models),
        "processors": processor_sentences(record.get("other_processors", ()), models, code),
        "quality": quality_section(quality, "carry --report"),
        "call": carry_call(record.get("output") or name, record),
    }
    return CARD.render(dict(record) | values)
