"""The model card of a fused or fine-tuned checkpoint: Markdown, with the front matter that the Hub reads."""

from collections.abc import Mapping
from typing import Any

from transfuse.base.short_names import short_names
from transfuse.checkpoint.cards.card_fields import header_fields
from transfuse.checkpoint.cards.front_matter import as_front_matter
from transfuse.checkpoint.cards.markdown import MARKDOWN, code
from transfuse.checkpoint.cards.method import alignment_sentence, kept_model, merge_sentences
from transfuse.checkpoint.cards.parents import differing_licenses, license_of, parents_of
from transfuse.checkpoint.cards.pipeline_tags import pipeline_tag
from transfuse.checkpoint.cards.processor_sentences import processor_sentences
from transfuse.checkpoint.cards.quality import given_quality, quality_fields, quality_section
from transfuse.checkpoint.record.command import fuse_call
from transfuse.checkpoint.record.memory_inputs import report_command
from transfuse.checkpoint.record.resized import resized_by_samples
from transfuse.config.layer_values import as_text

FUSED_CARD = MARKDOWN.from_string("""\
---
{{ header }}---

# {{ name | text }}

{% if kept %}
This model {{ kept }}, because no fusion of these \
{{ models | length | counted("model") }} was better on held-out samples. It was made with transfuse.
{% elif base and models | length == 1 %}
This model is {{ names[0] | code if names[0] else "a model passed in memory" }}, with its difference from its base \
changed. It was made with transfuse.
{% else %}
This model is a fusion of {{ models | length | counted("model") }} in one checkpoint \
{{ "with %.2f times the parameters" % (growth.parameters.grown / growth.parameters.anchor) if growth \
else "of the size" }} \
of the first, made with transfuse.
{% endif %}

| model | weight | license |
|---|---|---|
{% for model in models %}
| {{ names[loop.index0] | code if model.path else "passed in memory" }}{{ " (anchor)" if loop.first }} | \
{{ weights[loop.index0] | text }} | {{ (licenses[loop.index0] or "not stated") | text }} |
{% endfor %}

{% for line in processors %}
{{ line }}

{% endfor %}
{% if differing %}
**The licenses of these models differ.** The license of this card is that of the anchor. Check that the licenses \
permit a combined model before you share it.

{% endif %}
## How it was made

* Alignment: {{ aligned }} The result has the basis \
{{ "of the anchor, and more hidden units or heads" if growth else "and the shape of the anchor" }}.
* Merge: {{ merged }}
{% for name, line in resized %}
* Sizes: {{ name | code }} {{ line | text }}.
{% endfor %}
{% if base %}
* Base: {{ base.path | code if base.path else "a model passed in memory" }}\
{{ " (license: " ~ licenses[-1] | text ~ ")" if licenses[-1] }}. Task vectors are differences from it.
{% endif %}
{% if data == GENERATED %}
* Samples: texts that the models generated themselves. No other data was used.
{% elif data and (calibration_samples or sized_by_samples) %}
* Samples: {{ "{:,}".format(calibration_samples) ~ " of " if calibration_samples }}\
{{ data | data_and_split(calibration_split) }}.
{% elif data %}
* Samples: none to fuse. {{ data | code }} only measured the result.
{% else %}
* Samples: none. The models were fused by their weights alone.
{% endif %}
{% if version_list %}
* Versions: {{ version_list | text }}.
{% endif %}

{{ quality }}
{{ call | call_section }}

Hashes of the inputs, all options, and diagnostics of every aligned space are in `transfuse.json`.
""")
FINETUNED_CARD = MARKDOWN.from_string("""\
---
{{ header }}---

# {{ name | text }}

{{ finetuned.path | code if finetuned.path else "A model passed in memory" }} fine-tuned with transfuse: \
{{ steps | counted("step") }} on {{ samples | counted("sample") }} of {{ data | data_and_split(split) }}\
{{ ", with %s (share of the loss: %.4g)" % (teachers | length | counted("teacher"), schedule.distill) \
if teachers else "" }}\
{{ ", weighted per sample by %s" % schedule.teacher_weighting if schedule.teacher_weighting != "uniform" else "" }}.

{% if teachers %}
| teacher |
|---|
{% for teacher in teachers %}
| {{ teacher.path | code if teacher.path else "passed in memory" }} |
{% endfor %}

{% endif %}
Schedule, hashes of the inputs, losses and versions are in `transfuse.json`.
""")


def finetuned_card(name: str, record: Mapping[str, Any]) -> str:
    """Return the card of a fine-tuned model.

    Args:
        name: the name of the checkpoint's folder.
        record: the content of its `transfuse.json`.
    """
    tags = ["transfuse", *(["distillation"] if record["teachers"] else [])]
    header = header_fields([record["finetuned"]], "finetune", tags, record)
    return FINETUNED_CARD.render(record, name=name, header=as_front_matter(header))


def model_card(name: str, record: Mapping[str, Any]) -> str:
    """Return the card of a fused model.

    Args:
        name: the name of the checkpoint's folder.
        record: the content of its `transfuse.json`. `metrics`, if present, maps the names of data to accuracy, loss and
            samples. `output`, if present, is the folder that the command writes.
    """
    models, parents = record["models"], parents_of(record)
    align, merge = record["options"]["align"], record["merge"]
    quality = given_quality(record["metrics"]) if record.get("metrics") else None
    header = header_fields(parents, "merge", ["transfuse", "merge", f"align-{align}", f"merge-{merge}"], record)
    fields = {name: value for name, value in quality_fields(name, task_of(record), quality).items() if value}
    names = short_names([model["path"] or "" for model in models])
    parent, predicate = kept_model(record, names)
    values = {
        "name": name,
        "names": names,
        "kept": predicate,
        "weights": shown_weights(record),
        "header": as_front_matter(header | fields),
        "differing": differing_licenses(parents),
        "processors": processor_sentences(record.get("other_processors", ()), models, code),
        "licenses": [license_of(parent.get("card", {})) for parent in parents],
        "aligned": alignment_sentence(record),
        "merged": merge_sentences(record, parent),
        "resized": [_resized_line(line) for line in record.get("resized", [])],
        "sized_by_samples": resized_by_samples(record.get("resized", [])),
        "version_list": ", ".join(f"{package} {version}" for package, version in record.get("versions", {}).items()),
        "quality": quality_section(quality, report_command(record)),
        "call": fuse_call(record.get("output") or name, record),
    }
    return FUSED_CARD.render(dict(record) | values)


def _resized_line(line: str) -> tuple[str, str]:
    """Return the short name of a model of other sizes than the anchor, and how it got the anchor's."""
    model, _, change = line.partition(": has ")
    return short_names([model])[0], f"has {change}"


def task_of(record: Mapping[str, Any]) -> str | None:
    """Return the task on the Hub of a model that was fused, carried or made smaller.

    It is the task on the card of the anchor, of the tuned model or of the large model, or else that of its class.
    """
    model = record.get("shrunk") or record["models"][-1 if "carried" in record else 0]
    return model.get("card", {}).get("pipeline_tag") or pipeline_tag(model.get("architecture", ""))


def short_data_name(source: str) -> str:
    """Return a short name of samples: the last part of a path; a name on the Hub as it is."""
    return short_names([source])[0]


def shown_weights(record: Mapping[str, Any]) -> list[str]:
    """Return the weight of each model: its share, or as it was given if it is one of a task vector or of layers."""
    given = record["options"].get("weights") or ()
    if "base" in record or any(isinstance(weight, Mapping | list | tuple) for weight in given):
        shown = ["by layer" if isinstance(weight, Mapping) else as_text(weight) for weight in given]
    else:
        shown = []
    return shown or [f"{model['weight']:.4g}" for model in record["models"]]
