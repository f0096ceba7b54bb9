"""The model card of a fused checkpoint."""

import re
import shlex
from collections.abc import Mapping
from typing import Any

import yaml
from jinja2 import Environment

from transfuse.checkpoint.markdown import code, fenced, text
from transfuse.config.options import Options

IN_MEMORY = "dataset in memory"
COMMAND = "transfuse fuse"
MARKDOWN = Environment(autoescape=False, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)
MARKDOWN.filters.update(text=text, code=code, fenced=fenced)
CARD = MARKDOWN.from_string("""\
---
{{ header }}---

# {{ name | text }}

This is one model fused from {{ models | length }} with transfuse: aligned by
`{{ options.align }}`{{ "" if options.align == "none" else " (evidence: %s)" % evidence }}, merged by \
`{{ merge }}`, in the basis and shape of the first.

| model | weight |
|---|---|
{% for each in models %}
| {{ each.path | code if each.path else "passed in memory" }}{{ " (anchor)" if loop.first else "" }} | \
{{ "%.4g" % each.weight }} |
{% endfor %}

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


FINETUNED = MARKDOWN.from_string("""\
---
{{ header }}---

# {{ name | text }}

{{ finetuned.path | code if finetuned.path else "A model passed in memory" }} fine-tuned with transfuse: {{ steps }} \
steps on {{ samples }} samples of {{ data | code }}\
{{ ", with %d teachers (part of the loss: %.4g)" % (teachers | length, schedule.distill) if teachers else "" }}\
{{ ", believed by %s, sample by sample" % schedule.teacher_weighting if schedule.trust != "uniform" else "" }}.

{% if teachers %}
| teacher |
|---|
{% for each in teachers %}
| {{ each.path | code if each.path else "passed in memory" }} |
{% endfor %}

{% endif %}
Schedule, hashes of the inputs, losses and versions are in `transfuse.json`.
""")


def finetuned_card(name: str, record: dict[str, Any]) -> str:
    """Markdown with the front matter that the hub reads, for a fine-tuned model.

    Args:
        name: of the directory that is written.
        record: what `transfuse.json` holds.
    """
    base = record["finetuned"]["path"]
    header = {
        "library_name": "transformers",
        **({"base_model": [base], "base_model_relation": "finetune"} if base else {}),
        "tags": ["transfuse", *(["distillation"] if record["teachers"] else [])],
    }
    return FINETUNED.render(**record, name=name, header=yaml.safe_dump(header, sort_keys=False))


def model_card(name: str, record: dict[str, Any]) -> str:
    """Markdown with the front matter that the hub reads.

    Args:
        name: of the directory that is written.
        record: what `transfuse.json` holds; `metrics`, if there, maps a label to accuracy, loss and samples.
    """
    bases = [each["path"] for each in record["models"] if each["path"] is not None]
    header = {
        "library_name": "transformers",
        **({"base_model": bases, "base_model_relation": "merge"} if bases else {}),
        "tags": ["transfuse", "merge", f"align-{record['options']['align']}", f"merge-{record['merge']}"],
    }
    front, call = yaml.safe_dump(header, sort_keys=False), reproducing_call(name, record)
    by_command = call.startswith(COMMAND)
    return CARD.render(**{"metrics": None} | record, name=name, header=front, by_command=by_command, call=call)


def reproducing_call(name: str, record: Mapping[str, Any]) -> str:
    """What makes the same model again: a command line, or a call in Python of what was passed in memory."""
    passed = any(each["path"] is None for each in record["models"]) or str(record["data"]).startswith(IN_MEMORY)
    return _python(name, record) if passed else command_line(name, record)


def command_line(name: str, record: Mapping[str, Any]) -> str:
    """The command line that makes the same model again."""
    words = [*COMMAND.split(), *(each["path"] for each in record["models"]), "-o", name]
    if any(word.startswith("-") for word in words[2:-2]) or name.startswith("-"):
        words = [*words[:2], *(_explicit(word) for word in words[2:-2]), "-o", _explicit(name)]
    if record["data"] is not None:
        words += ["--data", _source(record["data"])]
    for option, value in non_default_options(record).items():
        flag = f"--{option.replace('_', '-')}"
        text = ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
        words += [flag] if value is True else [flag, text]
    return shlex.join(words)


def _python(name: str, record: Mapping[str, Any]) -> str:
    """The call that makes the same model again, given what was passed in memory."""
    models = ", ".join(
        repr(each["path"]) if each["path"] else f"model_{index}" for index, each in enumerate(record["models"], 1)
    )
    data = record["data"]
    source = "" if data is None else "data=dataset" if data.startswith(IN_MEMORY) else f"data={_source(data)!r}"
    options = [f"{option}={value!r}" for option, value in non_default_options(record).items()]
    arguments = ", ".join(filter(None, [f"[{models}]", source, *options]))
    return f"transfuse.fuse({arguments}).save({name!r})"


def non_default_options(record: Mapping[str, Any]) -> dict[str, Any]:
    """Options that differ from their defaults."""
    usual = Options().model_dump(mode="json")
    return {name: value for name, value in record["options"].items() if value != usual.get(name)}


def _source(data: str) -> str:
    """The place of samples, without the split that was taken from it."""
    return re.sub(r" \(split [^()]*\)$", "", data)


def _explicit(path: str) -> str:
    return f"./{path}" if path.startswith("-") else path
