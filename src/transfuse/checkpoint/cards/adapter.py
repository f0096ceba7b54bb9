"""The model card of an adapter that holds what a fusion changed."""

from collections.abc import Mapping
from typing import Any

from transfuse.base.sizes import format_bytes
from transfuse.checkpoint.cards.front_matter import as_front_matter
from transfuse.checkpoint.cards.markdown import MARKDOWN
from transfuse.checkpoint.reading.hub_names import hub_name

SHOWN = 4  # names of tensors in a line of the terminal
ADAPTER_CARD = MARKDOWN.from_string("""\
---
{{ header }}---

# {{ name | text }}

A LoRA adapter of PEFT, made with transfuse. It holds the difference of a fused model from \
{{ base | code if base else "a model passed in memory" }}. {{ held | text }}

{{ call | fenced("python") }}
""")


def adapter_card(name: str, facts: Mapping[str, Any], architecture: str, record: Mapping[str, Any]) -> str:
    """Return the card of an adapter.

    Args:
        facts: what the adapter holds, by the names of `AdapterContent`, and its `base`.
        architecture: the class of the base.
        record: the content of the fusion's `transfuse.json`.
    """
    card = record["models"][0].get("card", {})
    base = facts["base"]
    on_hub = hub_name(base)
    fields = {
        "license": card.get("license"),
        "language": card.get("language"),
        "library_name": "peft",
        "pipeline_tag": card.get("pipeline_tag"),
        "base_model": on_hub,
        "base_model_relation": "adapter" if on_hub else None,
        "tags": ["transfuse", "lora"],
    }
    header = as_front_matter({field: value for field, value in fields.items() if value})
    call = (
        f"from peft import PeftModel\nfrom transformers import {architecture}\n\n"
        f"base = {architecture}.from_pretrained({base or 'BASE'!r})\n"
        f"model = PeftModel.from_pretrained(base, {name!r})"
    )
    return ADAPTER_CARD.render(name=name, header=header, base=base, held=held_sentence(facts), call=call)


def held_sentence(facts: Mapping[str, Any]) -> str:
    """Return what an adapter holds of the difference between two models, and what it lacks."""
    layers = (
        f"With rank {facts['rank']}, it holds {100 * facts['layers_held']:.3g} % of the squared difference of the"
        f" {facts['layers']} linear layers that it adapts"
    )
    if facts["outputs_held"] is not None:
        layers += f", and {100 * facts['outputs_held']:.3g} % of that of their outputs on the samples"
    copied = len(facts["copied"])
    modules = f"; {copied} other modules are copied in full ({format_bytes(facts['copied_bytes'])})" if copied else ""
    names = facts["left_out"]
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    missing = f"; PEFT cannot hold {', '.join(names[:SHOWN])}{more}, which stay those of the base" if names else ""
    return f"{layers}{modules}{missing}."
