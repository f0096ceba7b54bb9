"""Texts in the layout of CoNLL: each line holds a word, perhaps further columns, and the tag of the word."""

import re
from collections.abc import Sequence

TAG = re.compile(r"O|[BIESLUM]-\S+")
DOCUMENT = "-DOCSTART-"  # instead of a word, where a document begins


def tagged_sentences(texts: Sequence[str]) -> dict[str, list[str] | list[list[str]]] | None:
    """Return the columns of sentences whose lines are words with tags: text, words and tags; None for other texts.

    Lines that begin with "#" and have no tag are comments.
    """
    words: list[list[str]] = []
    tags: list[list[str]] = []
    columns = set()
    for text in texts:
        rows = [row for line in text.split("\n") if (row := _fields(line)) and row[0] != DOCUMENT]
        rows = [row for row in rows if not row[0].startswith("#") or TAG.fullmatch(row[-1])]
        columns |= {len(row) for row in rows}
        if len(columns) > 1 or 1 in columns or not all(TAG.fullmatch(row[-1]) for row in rows):
            return None
        if rows:
            words.append([row[0] for row in rows])
            tags.append([row[-1] for row in rows])
    if not any(tag != "O" for sentence in tags for tag in sentence):
        return None
    return {"text": [" ".join(sentence) for sentence in words], "tokens": words, "ner_tags": tags}


def _fields(line: str) -> list[str]:
    return [field for field in line.split("\t" if "\t" in line else " ") if field]
