"""Messages of conversations: how a dataset holds them, and how chat templates read them."""

import json
from collections.abc import Mapping
from typing import Any

from datasets import Dataset, Features, List, Value

from transfuse.errors import DataError

SPEAKER_KEYS = ("role", "from")
CONTENT_KEYS = ("content", "value")
ROLES = {"human": "user", "gpt": "assistant", "bot": "assistant"}  # other names of the usual roles
TEXT_KINDS = ("text", "input_text", "output_text")  # of the parts of a content
OTHERS = "other keys"  # holds, as JSON, what messages do not have in common
MESSAGES = List({"role": Value("string"), "content": Value("string")})
STORED_MESSAGES = List({"role": Value("string"), "content": Value("string"), OTHERS: Value("string")})
ROWS_LOOKED_AT = 100

Message = Mapping[str, Any]


def holds_messages(feature: Any) -> bool:
    """Return whether a column holds conversations: lists of messages with a role and a content."""
    inner = getattr(feature, "feature", None)
    if isinstance(feature, list) and feature:
        inner = feature[0]
    return isinstance(inner, dict) and _has_keys(inner)


def with_decoded_messages(dataset: Dataset) -> Dataset:
    """Return a dataset whose conversations are lists of messages, also where `datasets` holds them as JSON.

    It does so if only some messages have a key, or contents are texts and lists.
    """
    columns = [
        name
        for name, feature in dataset.features.items()
        if _has_json(feature) and are_conversations(dataset.select_columns([name])[:ROWS_LOOKED_AT][name])
    ]
    if not columns:
        return dataset

    def decoded(rows: dict[str, list[Any]]) -> dict[str, list[Any]]:
        return {name: [stored_conversation(value) for value in rows[name]] for name in columns}

    features = Features({**dataset.features, **dict.fromkeys(columns, STORED_MESSAGES)})
    return dataset.map(decoded, batched=True, features=features, keep_in_memory=True)


def are_conversations(values: Any) -> bool:
    """Return whether the values of a column are lists of messages; some may be missing."""
    messages = [message for value in values if isinstance(value, list) for message in value if message is not None]
    are_lists = all(value is None or isinstance(value, list) for value in values)
    has_keys = all(isinstance(message, dict) and not set(SPEAKER_KEYS).isdisjoint(message) for message in messages)
    return are_lists and has_keys and any(map(_has_keys, messages))


def stored_conversation(value: Any) -> list[dict[str, str | None] | None] | None:
    """Return a conversation as `STORED_MESSAGES` holds it; anything else than a list is a missing one."""
    return [_stored(message) for message in value] if isinstance(value, list) else None


def role_of(message: Message) -> Any:
    """Return who writes a message, by the names that chat templates know; None if that is missing."""
    role: Any = next((message[key] for key in SPEAKER_KEYS if message.get(key) is not None), None)
    return ROLES.get(role, role)


def read_message(message: Message) -> dict[str, Any]:
    """Return a message with the keys and the names of roles that chat templates know, without empty values.

    Raises:
        DataError: the content has parts that are not texts.
    """
    known = _known(message)
    role = _first(known, SPEAKER_KEYS)
    content = _first(known, CONTENT_KEYS)
    return {"role": ROLES.get(role, role), "content": _text_of(content), **known}


def _stored(message: Any) -> dict[str, str | None] | None:
    if not isinstance(message, dict):
        return None
    others = _known(message)
    role = _first(others, SPEAKER_KEYS)
    content = _first(others, CONTENT_KEYS)
    if content is not None and not isinstance(content, str):
        others["content"] = content
    return {
        "role": None if role is None else str(role),
        "content": content if isinstance(content, str) else None,
        OTHERS: json.dumps(others, default=str) if others else None,
    }


def _known(message: Message) -> dict[str, Any]:
    """Return the values of a message that are there, as they were before it was stored."""
    known = {name: value for name, value in message.items() if value is not None}
    return known | json.loads(known.pop(OTHERS, "{}"))


def _first(message: dict[str, Any], keys: tuple[str, ...]) -> Any:
    """Remove these keys of a message, and return the value of the first one that it has."""
    values = [message.pop(key) for key in keys if key in message]
    return values[0] if values else None


def _text_of(content: Any) -> str:
    """Return the text of a content: the lines of its parts, if it has several; JSON for values of other kinds."""
    if content is None or isinstance(content, str):
        return content or ""
    if not isinstance(content, list):
        return json.dumps(content, ensure_ascii=False, default=str)
    return "\n".join(_text_of_part(part) for part in content if part is not None)


def _text_of_part(part: Any) -> str:
    kind = part.get("type") or "text" if isinstance(part, dict) else "text"
    text = part.get("text") if isinstance(part, dict) else part
    if kind not in TEXT_KINDS or not isinstance(text, str):
        named = f"of type {kind!r}" if kind not in TEXT_KINDS else "without a text"
        raise DataError(
            f"data: a message has a part {named}, but language models read texts only; remove such parts or rows"
        )
    return text


def _has_keys(message: Any) -> bool:
    return not (set(SPEAKER_KEYS).isdisjoint(message) or set(CONTENT_KEYS).isdisjoint(message))


def _has_json(feature: Any) -> bool:
    """Return whether a column holds JSON anywhere."""
    if isinstance(feature, dict):
        return any(map(_has_json, feature.values()))
    if isinstance(feature, list):
        return any(map(_has_json, feature))
    return type(feature).__name__ == "Json" or _has_json(getattr(feature, "feature", {}))
