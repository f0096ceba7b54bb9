"""Conversations and instructions become texts by the chat template."""

import json
from pathlib import Path

import pandas
import pytest
from datasets import Dataset
from languages import gpt2, saved
from transformers import AutoTokenizer, GPT2Config

from transfuse.data.load import load_samples
from transfuse.data.samples import Samples
from transfuse.data.text.conversations import as_text, conversation_column
from transfuse.data.text.texts import causal_preparer, text_preparer
from transfuse.errors import ConfigError, DataError

TEMPLATE = "{% for message in messages %}<{{ message['role'] }}>{{ message['content'] }}{% endfor %}"
TALK = [{"role": "user", "content": "two and two"}, {"role": "assistant", "content": "four"}]
WRITTEN = "<user>two and two<assistant>four"


@pytest.fixture
def tokenizer(tmp_path: Path):
    found = AutoTokenizer.from_pretrained(saved(tmp_path / "model", gpt2, 1))
    found.model_max_length = 100
    found.chat_template = TEMPLATE
    return found


@pytest.mark.parametrize("name", ["messages", "conversations"])
@pytest.mark.parametrize(
    "talk",
    [TALK, [{"from": "human", "value": "two and two"}, {"from": "gpt", "value": "four"}]],
    ids=["role", "from"],
)
def test_conversations_in_a_file(name, talk, tmp_path: Path, tokenizer) -> None:
    (tmp_path / "data.jsonl").write_text("\n".join(json.dumps({name: talk, "id": "x"}) for _ in range(2)))
    samples = load_samples(tmp_path / "data.jsonl")
    assert samples.text == name
    (given, _) = samples.inputs([0, 1])
    assert as_text(tokenizer, given) == WRITTEN
    ids = causal_preparer(tokenizer, GPT2Config())([given])["input_ids"][0]
    assert tokenizer.decode(ids) == WRITTEN


@pytest.mark.parametrize(
    ("row", "question"),
    [
        ({"instruction": "add", "input": "2 2", "output": "four"}, "add\n\n2 2"),
        ({"instruction": "add", "input": "", "output": "four"}, "add"),
        ({"prompt": "add", "completion": "four"}, "add"),
        ({"question": "add", "answer": "four", "source": "book"}, "add"),
        ({"question": "add", "context": "2 2", "answer": "four"}, "add\n\n2 2"),
        ({"instruction": "add", "context": None, "response": "four", "category": "sums"}, "add"),
    ],
)
def test_instructions(row, question, tokenizer) -> None:
    samples = load_samples(Dataset.from_list([row]))
    (given,) = samples.inputs([0])
    assert as_text(tokenizer, given) == f"<user>{question}<assistant>four"
    tokenizer.chat_template = None
    assert as_text(tokenizer, given) == f"{question}\n\nfour"


def test_a_context_and_a_system_prompt_are_read(tokenizer) -> None:
    asked = [
        {"instruction": "add", "context": "2 2", "response": "four"},
        {"instruction": "add", "context": " ", "response": "four"},
        {"instruction": "add", "context": None, "response": "four"},
    ]
    written = [as_text(tokenizer, given) for given in load_samples(asked).inputs([0, 1, 2])]
    assert written == ["<user>add\n\n2 2<assistant>four", *["<user>add<assistant>four"] * 2]
    prompted = [{"system_prompt": start, "question": "add", "response": "four"} for start in ("be brief", "", None)]
    given = load_samples(prompted).inputs([0, 1, 2])
    written = [as_text(tokenizer, talk) for talk in given]
    assert written == ["<system>be brief<user>add<assistant>four", *["<user>add<assistant>four"] * 2]
    tokenizer.chat_template = None
    assert as_text(tokenizer, given[0]) == "be brief\n\nadd\n\nfour"


def test_a_system_message_in_a_column_of_its_own_begins_the_conversation(tokenizer) -> None:
    said = [{"role": "system", "content": "be kind"}, *TALK]
    called = [{**TALK[0], "tools": ["sum"]}, TALK[1]]
    rows = [
        {"messages": TALK, "system": "be brief"},
        {"messages": said, "system": "be brief"},
        {"messages": TALK, "system": None},
        {"messages": called, "system": "be brief"},
    ]
    given = load_samples(rows).inputs([0, 1, 2, 3])
    starts = ["<system>be brief", "<system>be kind", "", "<system>be brief"]
    assert [as_text(tokenizer, talk) for talk in given] == [start + WRITTEN for start in starts]
    tokenizer.chat_template = "{% for message in messages %}{{ message.get('tools', '') }}{% endfor %}"
    assert as_text(tokenizer, given[3]) == "['sum']"


def test_a_context_without_values_is_none_and_one_of_another_kind_is_not_left_out(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("question,context,system_prompt,answer\nadd,,,four\n")
    (talk,) = load_samples(tmp_path / "rows.csv").inputs([0])
    assert [message["content"] for message in talk] == ["add", "four"]
    with pytest.raises(DataError, match="no text column among 'question', 'context', 'answer'"):
        load_samples([{"question": "add", "context": {"title": "sums"}, "answer": "four"}]).require_texts()


def test_instructions_in_a_table_of_pandas(tmp_path: Path) -> None:
    frame = pandas.DataFrame({"instruction": ["add", "sum"], "input": ["2 2", None], "output": ["four", "six"]})
    frame.to_csv(tmp_path / "rows.csv", index=False)
    for source in (frame, tmp_path / "rows.csv"):
        asked = [talk[0]["content"] for talk in load_samples(source).inputs([0, 1])]
        assert asked == ["add\n\n2 2", "sum"]


def test_other_columns_are_no_instructions() -> None:
    data = Dataset.from_list([{"question": "is it true", "answer": 1, "text": "yes"}])
    samples = load_samples(data)
    assert conversation_column(samples.dataset) is None
    assert samples.inputs([0]) == ["yes"]
    written = Dataset.from_list([{"instruction": "add", "output": "four", "text": "add: four"}])
    assert load_samples(written).inputs([0]) == ["add: four"]


def test_the_token_that_starts_a_text_is_there_once(tokenizer) -> None:
    from tokenizers.processors import TemplateProcessing

    end = tokenizer.eos_token
    tokenizer.bos_token = end
    tokenizer.chat_template = end + TEMPLATE
    assert text_preparer(tokenizer, GPT2Config())([TALK])["input_ids"][0].tolist().count(tokenizer.bos_token_id) == 1
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{end} $A", special_tokens=[(end, tokenizer.bos_token_id)]
    )
    assert text_preparer(tokenizer, GPT2Config())([TALK])["input_ids"][0].tolist().count(tokenizer.bos_token_id) == 1


def said(content, role="user", **others):
    return {"role": role, "content": content, **others}


def written_by(tokenizer, samples: Samples) -> list[str]:
    samples = samples.require_texts()
    return [as_text(tokenizer, talk) for talk in samples.inputs(range(len(samples)))]


def sources(rows, tmp_path: Path):
    """Return the same rows as JSON lines, as a list and, for lists of messages, as a table."""
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return tmp_path / "rows.jsonl", rows, pandas.DataFrame(rows)


def test_a_content_of_parts_does_not_change_the_other_messages(tmp_path: Path, tokenizer) -> None:
    parts = [{"type": "text", "text": "c"}, {"type": "text", "text": "d"}]
    rows = [{"messages": [said('a "quoted" line\nnext')]}, {"messages": [said(parts)]}]
    for source in sources(rows, tmp_path):
        for name in (None, "messages"):
            assert written_by(tokenizer, load_samples(source, text=name)) == [
                '<user>a "quoted" line\nnext',
                "<user>c\nd",
            ]


def test_contents_of_parts_without_a_template(tmp_path: Path, tokenizer) -> None:
    tokenizer.chat_template = None
    text, image = {"type": "text", "text": "hi there"}, {"type": "image"}
    for source in sources([{"messages": [said([text])]}], tmp_path)[:2]:
        assert written_by(tokenizer, load_samples(source)) == ["hi there"]
    for source in sources([{"messages": [said([text, image])]}, {"messages": [said("a")]}], tmp_path):
        with pytest.raises(DataError, match="part of type 'image', but language models read texts only; remove such"):
            load_samples(source).require_texts()


def test_only_some_messages_have_other_keys(tmp_path: Path, tokenizer) -> None:
    tokenizer.chat_template = TEMPLATE.replace("{% endfor", "{{ message.name }}{{ message.tool_calls }}{% endfor")
    calls = [{"id": 1, "arguments": {"x": [1, "a"]}}]
    rows = [
        {"messages": [said("a", name="N"), said(None, "assistant", tool_calls=calls)]},
        {"messages": [said("b"), said("c", "assistant", tool_calls=[{"id": "f", "arguments": {"y": 2}}])]},
    ]
    for source in sources(rows, tmp_path):
        first, second = written_by(tokenizer, load_samples(source))
        assert first == f"<user>aN<assistant>{calls}"
        assert second == "<user>b<assistant>c[{'id': 'f', 'arguments': {'y': 2}}]"


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": TALK[:1], "completion": TALK[1:]},
        {"prompt": TALK[:1], "chosen": TALK[1:], "rejected": [said("five", "assistant")]},
        {"prompt": "two and two", "chosen": "four", "rejected": "five"},
        {"prompt": TALK[:1], "chosen": TALK, "rejected": TALK},
        {"prompt": "two and two", "chosen": TALK, "rejected": TALK},
        {"Messages": TALK},
        {"Instruction": "two and two", "Input": None, "Response": "four"},
        {"conversations": [{"role": talk["role"], "value": talk["content"]} for talk in TALK]},
        {"conversations": [{"from": "human", "value": "two and two"}, TALK[1]]},
    ],
)
def test_other_layouts_of_conversations(row, tmp_path: Path, tokenizer) -> None:
    for source in sources([row], tmp_path)[:2]:
        assert written_by(tokenizer, load_samples(source)) == [WRITTEN]


@pytest.mark.parametrize("others", [{}, {"weight": 1}])
def test_missing_messages_and_conversations_are_left_out(others, tmp_path: Path, tokenizer) -> None:
    talks = [[None, said("a b")], None, [], [said("x", **others), said("y")]]
    for source in sources([{"messages": talk} for talk in talks], tmp_path)[:2]:
        samples = load_samples(source).require_texts()
        assert written_by(tokenizer, samples) == ["<user>x<user>y"]
        assert samples.notes == (f"{samples.name}: 3 of 4 texts are empty and left out",)


def test_a_template_that_refuses(tokenizer) -> None:
    tokenizer.chat_template = "{{ raise_exception('roles must alternate') }}"
    with pytest.raises(ConfigError, match="chat template cannot write a conversation: roles must alternate"):
        as_text(tokenizer, TALK)


@pytest.mark.parametrize("answer", [TALK[1:], TALK])
def test_a_prompt_that_is_a_text_begins_the_conversation(answer, tokenizer) -> None:
    samples = load_samples(Dataset.from_list([{"prompt": "two and two", "chosen": answer, "rejected": answer}]))
    assert as_text(tokenizer, samples.inputs([0])[0]) == WRITTEN
