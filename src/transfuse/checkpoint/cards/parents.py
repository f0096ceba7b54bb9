"""What a fusion takes from the model cards of its parents: license, language, task and data."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transfuse.checkpoint.cards.front_matter import front_matter
from transfuse.checkpoint.reading.companions import CARD

LICENSE = ("license", "license_name", "license_link")
TEXTS = (*LICENSE, "pipeline_tag", "library_name")
LISTS = ("language", "datasets")  # one text, or a list of texts
MAX_CHARACTERS = 1 << 20  # of a card that are read


def card_fields(folder: Path) -> dict[str, str | list[str]]:
    """Return those fields of the front matter of a model's card that are known and valid; none without a card."""
    file = folder / CARD
    if not file.is_file():
        return {}
    try:
        with file.open(encoding="utf-8") as card:
            fields = front_matter(card.read(MAX_CHARACTERS))
    except (OSError, ValueError):
        return {}
    texts: dict[str, str | list[str]] = {name: fields[name] for name in TEXTS if isinstance(fields.get(name), str)}
    lists = {name: values for name in LISTS if (values := _texts(fields.get(name)))}
    return texts | lists


def _texts(value: Any) -> list[str]:
    """Return a text or a list of texts as a list. YAML reads the code of Norwegian, no, as False."""
    values = value if isinstance(value, list) else [value]
    texts = ["no" if item is False else item for item in values]
    return [item for item in texts if isinstance(item, str)]


def license_of(fields: Mapping[str, Any]) -> str | None:
    """Return the license that the fields of a card state; for `other`, the name that the card gives it."""
    license_id = fields.get("license")
    return fields.get("license_name", license_id) if license_id == "other" else license_id


def parents_of(record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the entries of the models that a fusion derives from: those that were merged, and their base."""
    return [*record["models"], *([record["base"]] if "base" in record else [])]


def differing_licenses(models: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return the license of each model of a record that states one, by path; none if they all agree."""
    licenses = {
        model["path"] or f"model {number}": found
        for number, model in enumerate(models, 1)
        if (found := license_of(model.get("card", {})))
    }
    return licenses if len({name.lower() for name in licenses.values()}) > 1 else {}
