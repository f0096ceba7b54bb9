"""The fields of the front matter of a model card: what the model derives from, its task, data and tags."""

from collections.abc import Mapping, Sequence
from typing import Any

from transfuse.checkpoint.cards.parents import LICENSE
from transfuse.checkpoint.cards.pipeline_tags import pipeline_tag
from transfuse.checkpoint.reading.hub_names import hub_name
from transfuse.config.data_options import GENERATED


def header_fields(
    parents: Sequence[Mapping[str, Any]],
    relation: str,
    tags: Sequence[str],
    record: Mapping[str, Any],
    task_of: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the fields of the front matter, in the Hub's usual order. Names that are not on the Hub are left out.

    Args:
        parents: the models of the record that this model derives from, the anchor first.
        relation: what the Hub calls the derivation.
        task_of: the model of the record whose task this model has; None: the anchor.
    """
    directory = record.get("directory", ".")
    anchor = parents[0].get("card", {})
    task = parents[0] if task_of is None else task_of
    data = record["data"] if record["data"] and record["data"] != GENERATED else None
    trained_on = [name for parent in parents for name in parent.get("card", {}).get("datasets", [])]
    datasets = [hub_name(data, directory), *trained_on]
    sentences = bool(record.get("sentence_transformers"))
    bases = [name for parent in parents if (name := hub_name(parent["path"], directory))]
    library = "sentence-transformers" if sentences else "transformers"
    named = anchor.get("library_name")
    fields = {
        **{name: anchor.get(name) for name in (*LICENSE, "language")},
        "library_name": library if named in (None, "peft") else named,  # the result is no adapter
        "pipeline_tag": task.get("card", {}).get("pipeline_tag")
        or ("sentence-similarity" if sentences else pipeline_tag(task.get("architecture", ""))),
        "base_model": bases,
        "base_model_relation": relation if bases else None,
        "datasets": list(dict.fromkeys(name for name in datasets if name)),
        "tags": list(tags),
    }
    return {name: value for name, value in fields.items() if value}
