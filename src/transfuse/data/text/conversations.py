"""Conversations and instructions as texts, by the chat template of a tokenizer."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from datasets import Dataset, Features

from transfuse.data.column_kinds import is_string
from transfuse.data.columns import preferred, raw_values
from transfuse.data.text.context import TEXT, has_context
from transfuse.data.text.messages import (
    MESSAGES,
    STORED_MESSAGES,
    holds_messages,
    read_message,
    role_of,
    stored_conversation,
)
from transfuse.data.text.text_pairs import is_pair
from transfuse.errors import ConfigError, in_short

CONVERSATION_NAMES = ("messages", "conversations", "conversation")
QUESTION_NAMES = ("instruction", "prompt", "question")
REFERENCE_NAMES = ("input", "context", "passage", "paragraph", "document")  # what a question refers to
SYSTEM_NAMES = ("system_prompt", "system")
ANSWER_NAMES = ("output", "response", "completion", "answer", "chosen")
ROWS_AT_ONCE = 10_000


def conversation_column(dataset: Dataset) -> str | None:
    """Return the column of conversations: lists of messages with a role and a content; None if there is none.

    Conversations that are `chosen` among others are read if no other column has a usual name.
    """
    held = [name for name, feature in dataset.features.items() if holds_messages(feature)]
    return preferred(held, (*CONVERSATION_NAMES, "chosen"))


class InstructionColumns(NamedTuple):
    """The columns of instructions and their answers, all of texts.

    Attributes:
        asked: the question, and what it refers to.
        system: the column of system messages; None: there is none.
    """

    asked: list[str]
    answer: str
    system: str | None


def instruction_columns(dataset: Dataset) -> InstructionColumns | None:
    """Return the columns of instructions and their answers; None if there are none."""
    names = dataset.column_names
    answer = preferred(names, ANSWER_NAMES)
    question = preferred(names, QUESTION_NAMES)
    if answer is None or question is None:
        return None
    further = _columns_with_values(dataset, (*REFERENCE_NAMES, *SYSTEM_NAMES))
    if not all(is_string(dataset.features[name]) for name in (question, answer, *further.values())):
        return None
    asked = [question, *(name for usual, name in further.items() if usual in REFERENCE_NAMES)]
    return InstructionColumns(asked, answer, next((further[usual] for usual in SYSTEM_NAMES if usual in further), None))


def with_joined_conversations(dataset: Dataset) -> Dataset:
    """Return a dataset of prompts and answers that are lists of messages with a column `messages` of both.

    A prompt may also be a text. It is the user's first message, unless the answer begins with a message of the user.

    A dataset with a column of conversations, and any other one, is returned as it is.
    """
    held = [name for name, feature in dataset.features.items() if holds_messages(feature)]
    prompt = preferred([*held, *filter(lambda name: is_string(dataset.features[name]), dataset.features)], ("prompt",))
    answer = preferred(held, ("completion", "chosen"))
    if prompt is None or answer is None or preferred(held, CONVERSATION_NAMES):
        return dataset

    def joined(row: dict[str, Any]) -> dict[str, Any]:
        asked, answered = row[prompt] or [], row[answer] or []
        if isinstance(asked, str):
            first = next((role_of(message) for message in answered if message and role_of(message) != "system"), None)
            asked = [{"role": "user", "content": asked}] if _is_written(asked) and first != "user" else []
        repeats = answered[: len(asked)] == asked  # an answer may be the whole conversation
        return {"messages": stored_conversation(answered if repeats else asked + answered)}

    features = Features({**dataset.features, "messages": STORED_MESSAGES})
    return dataset.map(joined, features=features, keep_in_memory=True)


def with_system_messages(dataset: Dataset, column: str) -> Dataset:
    """Return a dataset whose conversations begin with the system message that a column of texts holds, if one does.

    A conversation that has a system message stays as it is.

    Args:
        column: the column of conversations.
    """
    system = next(iter(_columns_with_values(dataset, SYSTEM_NAMES).values()), None)
    if system is None or not is_string(dataset.features[system]):
        return dataset

    def begun(row: dict[str, Any]) -> dict[str, Any]:
        messages = row[column]
        if (
            messages
            and _is_written(row[system])
            and not any(message and role_of(message) == "system" for message in messages)
        ):
            messages = [{"role": "system", "content": row[system]}, *messages]
        return {column: stored_conversation(messages)}

    features = Features({**dataset.features, column: STORED_MESSAGES})
    return dataset.map(begun, features=features, keep_in_memory=True)


def with_conversations(dataset: Dataset) -> Dataset:
    """Return a dataset of instructions and answers with a column `messages`; any other one is returned as it is."""
    columns = instruction_columns(dataset)
    if columns is None or conversation_column(dataset):
        return dataset
    asked, answer, system = columns

    def conversation(row: dict[str, Any]) -> dict[str, Any]:
        content = "\n\n".join(row[name] for name in asked if _is_written(row[name]))
        return {"messages": _messages(row[system] if system else None, content, row[answer] or "")}

    features = Features({**dataset.features, "messages": MESSAGES})
    return dataset.map(conversation, features=features, keep_in_memory=True)


def as_text(tokenizer: Any, value: Any) -> str:
    """Return a text as it is, and a conversation as the text that the tokenizer's chat template makes of it.

    A pair of texts becomes two lines, for models that do not read pairs. A token that starts the text is left out if
    the tokenizer adds it. A tokenizer without a chat template gets the contents of the messages, with blank lines
    between them.

    Raises:
        ConfigError: the chat template does not take the conversation.
    """
    if isinstance(value, str):
        return value
    if has_context(value):
        return "".join(value.values())
    if is_pair(value):
        return "\n".join(str(text) for text in value)
    messages = [read_message(message) for message in value]
    if not getattr(tokenizer, "chat_template", None):
        return "\n\n".join(message["content"] for message in messages)
    try:
        text: str = tokenizer.apply_chat_template(messages, tokenize=False)
    except Exception as error:  # a template is a program, which can raise anything
        raise ConfigError(
            f"data: the tokenizer's chat template cannot write a conversation: {in_short(error)}"
        ) from error
    start = tokenizer.bos_token
    adds_start = start is not None and tokenizer("")["input_ids"][:1] == [tokenizer.bos_token_id]
    return text.removeprefix(start) if adds_start else text


def text_length(value: Any) -> int:
    """Return the characters of a text, or about those of a conversation."""
    if isinstance(value, str):
        return len(value)
    parts = value.values() if has_context(value) else value or ()
    return sum(len(str(part)) for part in parts)


def rows_with_text(dataset: Dataset, column: str) -> tuple[list[int], int]:
    """Return the indices of the rows whose text, pair or conversation is not blank, and how many lack a part.

    Only some rows are held at once.
    """
    written: list[int] = []
    incomplete = 0
    for start in range(0, len(dataset), ROWS_AT_ONCE):
        values = raw_values(dataset.select(range(start, min(start + ROWS_AT_ONCE, len(dataset)))), column)
        for row, value in enumerate(values, start):
            has_text = [bool(part.strip()) for part in _parts(value)]
            if any(has_text):
                written.append(row)
                incomplete += not all(has_text)
    return written, incomplete


def _parts(value: Any) -> list[str]:
    """Return the texts of a sample: one, those of a pair, the contents of messages, or the one after a context."""
    if isinstance(value, str):
        return [value]
    if has_context(value):
        return [value[TEXT]]
    if value is None or is_pair(value):
        return list(value or ())
    if any(message is None for message in value):
        return []
    return [read_message(message)["content"] for message in value]


def _columns_with_values(dataset: Dataset, usual: Sequence[str]) -> dict[str, str]:
    """Return the columns with these names, without case, in which something stands, by the usual name."""
    found = {name: preferred(dataset.column_names, (name,)) for name in usual}
    return {
        name: column for name, column in found.items() if column is not None and not _has_no_values(dataset, column)
    }


def _has_no_values(dataset: Dataset, column: str) -> bool:
    """Return whether nothing stands in a column; such a column of a table is none of texts."""
    return not is_string(dataset.features[column]) and all(value is None for value in raw_values(dataset, column))


def _is_written(text: str | None) -> bool:
    """Return whether a text is neither missing nor blank."""
    return text is not None and text.strip() != ""


def _messages(system: str | None, question: str, answer: str) -> list[dict[str, str]]:
    """Return a conversation of a question and its answer, after the system prompt if there is one."""
    messages = [("system", system or "")] if _is_written(system) else []
    messages += [("user", question), ("assistant", answer)]
    return [{"role": role, "content": content} for role, content in messages]
