"""The model card of a model that was made smaller."""

from collections.abc import Mapping
from typing import Any

from transfuse.checkpoint.card_quality import quality_section
from transfuse.checkpoint.command import SHRINK, shrink_call
from transfuse.checkpoint.front_matter import as_front_matter
from transfuse.checkpoint.header import header_fields
from transfuse.checkpoint.markdown import MARKDOWN

CARD = MARKDOWN.from_string("""\
---
{{ header }}---

# {{ name | text }}

{{ shrunk.path | code if shrunk.path else "A model passed in memory" }} made smaller with transfuse: \
{{ "{:,}".format(parameters.small) }} of {{ "{:,}".format(parameters.large) }} parameters.

| size | before | after |
|---|---|---|
{% for size, value in sizes.small.items() %}
| {{ size | code }} | {{ sizes.large[size] }} | {{ value }} |
{% endfor %}

## How it was made

The residual stream was rotated, where the architecture allows it, and its leading directions were kept. Hidden units \
and heads were chosen by least squares, blocks by the damage of their removal, and every layer was fitted to what \
the large model computes.
{% if learned_weights and learned_weights.best %}
All weights were then trained on the streams and predictions of the large model, for {{ learned_weights.best }} steps.
{% endif %}

* Samples: {{ "{:,}".format(calibration_samples) }} \
{{ "texts that the model generated itself" if data == "generated" else "of " ~ (data | code) }}. No labels were used.

{{ quality }}
## {{ "Command" if by_command else "Call" }}

{{ call | fenced("bash" if by_command else "python") }}

All options, hashes of the input and versions are in `transfuse.json`.
""")


def shrunk_card(name: str, record: Mapping[str, Any]) -> str:
    """Return the card of a model that was made smaller.

    Args:
        name: the name of the checkpoint's folder.
        record: the content of its `transfuse.json`.
    """
    header = header_fields([record["shrunk"]], "finetune", ["transfuse", "pruning"], record)
    call = shrink_call(record.get("output") or name, record)
    values = {
        "name": name,
        "header": as_front_matter(header),
        "quality": quality_section(None, "shrink --report", "the large one"),
        "call": call,
        "by_command": call.startswith(SHRINK),
    }
    return CARD.render(**{"learned_weights": None} | dict(record) | values)
