"""The model card of a fused checkpoint."""

from typing import Any

import yaml
from jinja2 import Environment

CARD = Environment(autoescape=False, trim_blocks=True, lstrip_blocks=True).from_string("""\
---
{{ header }}---

# {{ name }}

This is one model fused from {{ models | length }} with [transfuse](https://pypi.org/project/transfuse/): aligned by
`{{ options.align }}` (evidence: {{ evidence }}), merged by `{{ options.merge }}`, in the basis and shape of the first.

| model | weight |
|---|---|
{% for each in models %}
| `{{ each.path or "passed in memory" }}`{{ " (anchor)" if loop.first else "" }} | {{ "%.4g" % each.weight }} |
{% endfor %}

{% if metrics %}
## Measured

| | accuracy | loss | samples |
|---|---|---|---|
{% for label, values in metrics.items() %}
| {{ label }} | {{ "%.4f" % values.accuracy }} | {{ "%.4f" % values.loss }} | {{ values.samples }} |
{% endfor %}

{% endif %}
## Command

```
{{ command }}
```

Hashes of the inputs, versions, and diagnostics of every aligned space are in `transfuse.json`.
""")


def model_card(name: str, record: dict[str, Any]) -> str:
    """Markdown with the front matter that the hub reads."""
    bases = [each["path"] for each in record["models"] if each["path"]]
    header = {
        "library_name": "transformers",
        **({"base_model": bases, "base_model_relation": "merge"} if bases else {}),
        "tags": ["transfuse", "merge", f"align-{record['options']['align']}", f"merge-{record['options']['merge']}"],
    }
    document = {"metrics": None, "command": _call(record)} | record
    return CARD.render(name=name, header=yaml.safe_dump(header, sort_keys=False), **document)


def _call(record: dict[str, Any]) -> str:
    models = ", ".join(repr(each["path"]) for each in record["models"])
    return f"transfuse.fuse([{models}], data={record['data']!r}, align={record['options']['align']!r})"
