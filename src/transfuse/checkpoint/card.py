"""The model card of a fused or fine-tuned checkpoint, and the command that makes the checkpoint again."""

import re
import shlex
from collections.abc import Mapping
from typing import Any

import yaml
from jinja2 import Environment

from transfuse.checkpoint.markdown import code, fenced, text
from transfuse.config.layer_values import as_text
from transfuse.config.options import Options
from transfuse.config.renamed import with_current_names

DATASET_IN_MEMORY = "dataset in memory"
COMMAND = "transfuse fuse"
MARKDOWN = Environment(autoescape=False, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)
MARKDOWN.filters.update(text=text, code=code, fenced=fenced)
FUSED_CARD = MARKDOWN.from_string("""\
---
{{ header }}---

# {{ name | text }}

This model was fused from {{ models | length }} models with transfuse: aligned by
`{{ options.align }}`{{ "" if options.align == "none" else " (matched on: %s)" % match_on }}, merged by \
`{{ merge }}`, in the basis and shape of the first model.
{% if base %}
The task vectors are differences from {{ base.path | code if base.path else "a model passed in memory" }}.
{% endif %}

| model | weight |
|---|---|
{% for model in models %}
| {{ model.path | code if model.path else "passed in memory" }}{{ " (anchor)" if loop.first else "" }} | \
{{ "%.4g" % model.weight }} |
{% endfor %}

{% if data == "generated" %}
The samples are texts that the models generated themselves. No other data was used.

{% endif %}
{% if metrics %}
## Measured

| | accuracy | loss | samples |
|---|---|---|---|
{% for label in metrics %}
| {{ label | text }} | {{ "%.4f" % metrics[label]["accuracy"] }} | {{ "%.4f" % metrics[label]["loss"] }} | \
{{ metrics[label]["samples"] }} |
{% endfor %}

{% endif %}
## {{ "Command" if by_command else "Call" }}

{{ call | fenced }}

Hashes of the inputs, versions, and diagnostics of every aligned space are in `transfuse.json`.
""")
FINETUNED_CARD = MARKDOWN.from_string("""\
---
{{ header }}---

# {{ name | text }}

{{ finetuned.path | code if finetuned.path else "A model passed in memory" }} fine-tuned with transfuse: {{ steps }} \
steps on {{ samples }} samples of {{ data | code }}\
{{ ", with %d teachers (share of the loss: %.4g)" % (teachers | length, schedule.distill) if teachers else "" }}\
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


def finetuned_card(name: str, record: dict[str, Any]) -> str:
    """Return the card of a fine-tuned model: Markdown, with the front matter that the Hub reads.

    Args:
        name: name of the checkpoint's folder.
        record: content of its `transfuse.json`.
    """
    base = record["finetuned"]["path"]
    header = {
        "library_name": "transformers",
        **({"base_model": [base], "base_model_relation": "finetune"} if base else {}),
        "tags": ["transfuse", *(["distillation"] if record["teachers"] else [])],
    }
    return FINETUNED_CARD.render(**record, name=name, header=yaml.safe_dump(header, sort_keys=False))


def model_card(name: str, record: dict[str, Any]) -> str:
    """Return the card of a fused model: Markdown, with the front matter that the Hub reads.

    Args:
        name: name of the checkpoint's folder.
        record: content of its `transfuse.json`; `metrics`, if present, maps labels to accuracy, loss and samples.
    """
    bases = [model["path"] for model in record["models"] if model["path"] is not None]
    header = {
        "library_name": "transformers",
        **({"base_model": bases, "base_model_relation": "merge"} if bases else {}),
        "tags": ["transfuse", "merge", f"align-{record['options']['align']}", f"merge-{record['merge']}"],
    }
    call = reproducing_call(name, record)
    values = {
        "name": name,
        "header": yaml.safe_dump(header, sort_keys=False),
        "call": call,
        "by_command": call.startswith(COMMAND),
    }
    return FUSED_CARD.render(**{"metrics": None, "base": None} | record | values)


def reproducing_call(name: str, record: Mapping[str, Any]) -> str:
    """Return what makes the same model again: a command line, or a Python call if anything was passed in memory."""
    in_memory = any(model["path"] is None for model in (*record["models"], record.get("base", {"path": ""})))
    in_memory = in_memory or str(record["data"]).startswith(DATASET_IN_MEMORY)
    settings = [value for option in ("weights", "density") for value in record["options"].get(option) or ()]
    in_python = in_memory or any(isinstance(value, Mapping) for value in settings)  # no flag can hold a mapping
    return _python_call(name, record) if in_python else command_line(name, record)


def command_line(name: str, record: Mapping[str, Any]) -> str:
    """Return the command line that makes the same model again."""
    paths = [model["path"] for model in record["models"]]
    if any(path.startswith("-") for path in (*paths, name)):
        paths = [_not_a_flag(path) for path in paths]
        name = _not_a_flag(name)
    words = [*COMMAND.split(), *paths, "-o", name]
    if record["data"] is not None:
        words += ["--data", _source(record["data"])]
    if "base" in record:
        words += ["--base", record["base"]["path"]]
    for option, value in _flat(non_default_options(record)).items():
        flag = f"--{option.replace('_', '-')}"
        text = ",".join(map(as_text, value)) if isinstance(value, list | tuple) else str(value)
        words += [flag] if value is True else [flag, text]
    return shlex.join(words)


def _python_call(name: str, record: Mapping[str, Any]) -> str:
    """Return the call that makes the same model again, given what was passed in memory."""
    models = ", ".join(
        repr(model["path"]) if model["path"] else f"model_{index}" for index, model in enumerate(record["models"], 1)
    )
    data = record["data"]
    source = ""
    if data is not None:
        source = "data=dataset" if data.startswith(DATASET_IN_MEMORY) else f"data={_source(data)!r}"
    if "base" in record:
        source = ", ".join(filter(None, [source, f"base={record['base']['path'] or 'base'!r}"]))
    options = [f"{option}={value!r}" for option, value in non_default_options(record).items()]
    arguments = ", ".join(filter(None, [f"[{models}]", source, *options]))
    return f"transfuse.fuse({arguments}).save({name!r})"


def non_default_options(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a record that differ from their defaults, under their current names."""
    current, _ = with_current_names(Options, record["options"], {})
    different = _differences(current, Options().model_dump(mode="json"))
    if "shared_base" in record:  # not aligned by default
        different.pop("align", None)
    return different


def _differences(options: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that differ from `defaults`; of nested options, those that do."""
    different: dict[str, Any] = {}
    for name, value in options.items():
        if isinstance(value, Mapping):
            if nested := _differences(value, defaults.get(name) or {}):
                different[name] = nested
        elif value != defaults.get(name):
            different[name] = value
    return different


def _flat(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested options under dotted names, as flags spell them: flow.plan."""
    flat: dict[str, Any] = {}
    for name, value in options.items():
        if isinstance(value, Mapping):
            flat |= {f"{name}.{nested}": setting for nested, setting in value.items()}
        else:
            flat[name] = value
    return flat


def _source(data: str) -> str:
    """Return the source of samples, without the split that was taken from it."""
    return re.sub(r" \(split [^()]*\)$", "", data)


def _not_a_flag(path: str) -> str:
    return f"./{path}" if path.startswith("-") else path
