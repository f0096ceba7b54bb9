"""Prepare War and Peace, Tiny Shakespeare, or both, as passages of about a hundred words, and their tokenizers."""

from functools import cache
from pathlib import Path

from common import DATA
from datasets import Dataset, concatenate_datasets
from tokenizers.implementations import ByteLevelBPETokenizer
from transformers import BertTokenizerFast, PreTrainedTokenizerFast

WORDS = 85  # minimum of a passage; with punctuation, most passages fit into LENGTH tokens
LENGTH = 128
END = "<|endoftext|>"
BOOKS = ("tinyshakespeare", "warandpeace")
OTHER = 10  # one in so many passages of each book goes to the parents that mostly read the other


def lines(name: str, text: str) -> list[str]:
    """Return the lines of a split.

    For Tiny Shakespeare, `test` is its validation file, and `validation` is the last tenth of its training file.
    """
    files = {"test": "validation", "validation": "train"} if text == "tinyshakespeare" else {}
    found = (DATA / "text" / f"{text}.{files.get(name, name)}.txt").read_text(encoding="utf-8").splitlines()
    if text != "tinyshakespeare" or name == "test":
        return found
    edge = len(found) * 9 // 10
    return found[:edge] if name == "train" else found[edge:]


@cache
def passages(name: str, text: str = "warandpeace") -> Dataset:
    """Return a split as passages of consecutive lines. `books` has equally many passages of both books."""
    if text == "books":
        both = [passages(name, book) for book in BOOKS]
        return concatenate_datasets([rows.take(min(map(len, both))) for rows in both])
    found: list[str] = []
    for line in lines(name, text):
        if line and found and len(found[-1].split()) < WORDS:
            found[-1] += f" {line}"
        elif line:
            found.append(line)
    return Dataset.from_dict({"text": found})


def mostly(rows: Dataset, book: int) -> Dataset:
    """Return nine tenths of the passages of one book, and the tenth of the other that its readers do not see."""
    half = len(rows) // 2
    return rows.select([row for row in range(len(rows)) if (row // half == book) != (row % half % OTHER == 0)])


def tokenizer(folder: Path) -> BertTokenizerFast:
    """Return BERT's tokenizer, restricted to the tokens of the training text and single characters."""
    stored = DATA / "text" / "bert-base-uncased.vocab.txt"
    whole = BertTokenizerFast(str(stored), model_max_length=LENGTH)
    needed = {token for ids in whole(passages("train")["text"][:])["input_ids"] for token in ids}
    vocabulary = [
        token for index, token in enumerate(stored.read_text(encoding="utf-8").splitlines())
        if index in needed or token.startswith("[") or len(token.removeprefix("##")) == 1
    ]  # fmt: skip
    unused = [token for token in vocabulary if token.startswith("[unused")]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "vocab.txt"
    path.write_text("\n".join(token for token in vocabulary if token not in unused) + "\n", encoding="utf-8")
    return BertTokenizerFast(str(path), model_max_length=LENGTH)


VOCABULARIES = {"warandpeace": 2048, "tinyshakespeare": 1024, "books": 1536}


@cache
def byte_pairs(text: str = "warandpeace", length: int = 192) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE on the training text. It is the same for all parents, as the training is deterministic."""
    words = ByteLevelBPETokenizer()
    words.train_from_iterator(
        passages("train", text)["text"], vocab_size=VOCABULARIES[text], special_tokens=[END], show_progress=False
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=words._tokenizer, model_max_length=length, bos_token=END, eos_token=END, pad_token=END
    )
