"""War and Peace as passages of some hundred words, and tokenizers made for it."""

from functools import cache
from pathlib import Path

from common import DATA
from datasets import Dataset
from tokenizers.implementations import ByteLevelBPETokenizer
from transformers import BertTokenizerFast, PreTrainedTokenizerFast

WORDS = 85  # of a passage, at least: with their punctuation, most fit into LENGTH tokens
LENGTH = 128
END = "<|endoftext|>"


@cache
def passages(name: str) -> Dataset:
    """The `train`, `validation` or `test` text, consecutive lines put together."""
    found: list[str] = []
    for line in (DATA / "text" / f"warandpeace.{name}.txt").read_text(encoding="utf-8").splitlines():
        if line and found and len(found[-1].split()) < WORDS:
            found[-1] += f" {line}"
        elif line:
            found.append(line)
    return Dataset.from_dict({"text": found})


def tokenizer(folder: Path) -> BertTokenizerFast:
    """BERT's tokenizer with those of its tokens that the training text needs, and every single character."""
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


@cache
def byte_pairs(vocabulary: int = 2048, length: int = 192) -> PreTrainedTokenizerFast:
    """A byte-level BPE trained on the training text: the same for every parent, as its training is deterministic."""
    words = ByteLevelBPETokenizer()
    words.train_from_iterator(
        passages("train")["text"], vocab_size=vocabulary, special_tokens=[END], show_progress=False
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=words._tokenizer, model_max_length=length, bos_token=END, eos_token=END, pad_token=END
    )
