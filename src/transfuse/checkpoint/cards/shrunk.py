"""The model card of a model that was made smaller."""

from collections.abc import Mapping
from typing import Any

from transfuse.checkpoint.cards.card_fields import header_fields
from transfuse.checkpoint.cards.front_matter import as_front_matter
from transfuse.checkpoint.cards.markdown import MARKDOWN
from transfuse.checkpoint.cards.quality import quality_section
from transfuse.checkpoint.record.command import shrink_call

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

{% for sentence in made %}
{{ sentence }}
{% endfor %}
{% if learned_weights and learned_weights.best %}
All weights were then trained on the streams and predictions of the large model, for \
{{ learned_weights.best | counted("step") }}.
{% endif %}

* Samples: {{ "{:,}".format(calibration_samples) }} \
{{ "texts that the model generated itself" if data == GENERATED \
else "of " ~ (data | data_and_split(calibration_split)) }}. No labels were used.

{{ quality }}
{{ call | call_section }}

All options, hashes of the input and versions are in `transfuse.json`.
""")


def shrunk_card(name: str, record: Mapping[str, Any]) -> str:
    """Return the card of a model that was made smaller.

    Args:
        name: the name of the checkpoint's folder.
        record: the content of its `transfuse.json`.
    """
    header = header_fields([record["shrunk"]], "finetune", ["transfuse", "pruning"], record)
    values = {
        "name": name,
        "header": as_front_matter(header),
        "made": _made(record),
        "quality": quality_section(None, "shrink --report", "the large one"),
        "call": shrink_call(record.get("output") or name, record),
    }
    return CARD.render(dict(record) | values)


def kept_experts(record: Mapping[str, Any]) -> dict[int, Mapping[str, Any]]:
    """Return which experts stayed, by the block of the large model, for the blocks that stayed."""
    blocks = {
        int(part): entry
        for name, entry in record.get("experts", {}).items()
        for part in name.split(".")
        if part.isdecimal()
    }
    return {block: entry for block, entry in blocks.items() if block in record["blocks"]}


def _made(record: Mapping[str, Any]) -> list[str]:
    """Return a sentence on each kind of size that changed, and one on the fit of the layers."""
    large, small = (record["sizes"][name] for name in ("large", "small"))
    changed = {name for name, size in small.items() if size != large[name]}
    sentences = []
    if "layers" in changed:
        kept = ", ".join(map(str, record["blocks"]))
        sentences.append(
            "The blocks whose removal changed the predictions least were removed. These stayed (counted from 0):"
            f" {kept}."
        )
    if "experts" in changed:
        kept = "; ".join(
            f"{', '.join(map(str, sorted(entry['kept'])))} in block {block}"
            for block, entry in kept_experts(record).items()
        )
        sentences.append(
            "In each block, held-out samples decided which experts were removed: those whose removal changed the output"
            f" of the layer least, or those with the smallest outputs. These stayed (counted from 0): {kept}."
        )
    if "hidden_size" in changed:
        sentences.append(
            "The leading directions of the residual stream were kept, or the units that explain the others best where"
            " the architecture does not allow it to be rotated."
        )
    if "intermediate_size" in changed:
        sentences.append("Hidden units were chosen by least squares.")
    if changed & {"heads", "kv_heads"}:
        sentences.append("Attention heads were chosen by least squares.")
    if "head_size" in changed:
        sentences.append(
            "Each head kept the channels that matter most. Of rotary ones, it kept those whose frequencies a smaller"
            " head has."
        )
    return [*sentences, "Every layer was fitted to what the large model computes."]
