"""What the examples share: real data that is installed already, parents, and the table that they end with."""

import ast
import pydoc_data.topics
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value, disable_progress_bars
from rich.console import Console
from rich.table import Table
from tokenizers.implementations import BertWordPieceTokenizer, ByteLevelBPETokenizer
from transformers import BertTokenizerFast, PreTrainedModel, PreTrainedTokenizerFast

import transfuse
from transfuse.base.progress import quiet_libraries
from transfuse.checkpoint.load import load_model
from transfuse.cli.demo.digits import NAMES, digits, processor
from transfuse.data.samples import load_samples
from transfuse.data.tasks import model_preparer, task, with_model_ids
from transfuse.evaluation.evaluate import ensemble, evaluate

__all__ = ["DIGITS", "PACKAGES", "digits", "docstrings", "pair_bytes", "pieces", "processor", "show", "topics",
           "trained"]  # fmt: skip

DIGITS: dict[str, Any] = {
    "image_size": 8, "patch_size": 2, "num_channels": 1, "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0, "id2label": dict(enumerate(NAMES)),
    "label2id": {name: index for index, name in enumerate(NAMES)},
}  # fmt: skip
disable_progress_bars()
PACKAGES = ("asyncio", "email", "logging", "multiprocessing", "unittest", "xml")
FORMATS = {"accuracy": ".2%", "loss": ".4f", "perplexity": ".2f"}
WORDS = 40  # of a passage, at least


def trained(
    model: PreTrainedModel, data: DatasetDict, processor: Any, folder: Path, seed: int, **schedule: Any
) -> Path:
    """`model` trained on the training split and saved with its processor."""
    with quiet_libraries():
        tuned = transfuse.finetune(model, data, processor=processor, seed=seed, **schedule)
        return tuned.save(folder, "replace")


def show(models: Mapping[str, Path | Sequence[Path]], data: DatasetDict) -> None:
    """Print how good each model is on the test split; several models together are an ensemble."""
    found = {}
    for name, given in models.items():
        paths = [given] if isinstance(given, Path) else given
        loaded = [load_model(path) for path in paths]
        does = task(type(loaded[0]).__name__)
        samples = with_model_ids(loaded[0].config, does.labeled(load_samples(data)))
        batches = list(samples.batches(model_preparer(paths[0], loaded[0]), 100))
        found[name] = evaluate(loaded[0], batches) if len(loaded) == 1 else ensemble(loaded, batches)
    measures = [name for name in FORMATS if name in does.measures]
    table = Table("model", *measures)
    for name, metrics in found.items():
        table.add_row(name, *(format(getattr(metrics, measure), FORMATS[measure]) for measure in measures))
    Console().print(table)


def topics() -> DatasetDict:
    """Python's own reference (`help("while")`) as passages of some fifty words, a tenth of them to test on."""
    paragraphs = (" ".join(part.split()) for text in pydoc_data.topics.topics.values() for part in text.split("\n\n"))
    passages = [""]
    for paragraph in dict.fromkeys(paragraphs):  # some stand under several headings
        passages[-1] = f"{passages[-1]} {paragraph}".strip()
        if len(passages[-1].split()) >= WORDS:
            passages.append("")
    return _split({"text": passages[:-1]}, Features({"text": Value("string")}))


def docstrings() -> DatasetDict:
    """Docstrings of six packages of the standard library, labelled with the package; a fifth of them to test on."""
    labels = {text: index for index, package in enumerate(PACKAGES) for text in _documentation(package)}
    columns = {"text": list(labels), "label": list(labels.values())}
    return _split(columns, Features({"text": Value("string"), "label": ClassLabel(names=list(PACKAGES))}))


def pieces(texts: Sequence[str], size: int, length: int) -> BertTokenizerFast:
    """BERT's kind of tokenizer, its vocabulary of `size` words made for these texts."""
    words = BertWordPieceTokenizer()
    words.train_from_iterator(texts, vocab_size=size, show_progress=False)
    return BertTokenizerFast(tokenizer_object=words._tokenizer, model_max_length=length)


def pair_bytes(texts: Sequence[str], size: int, length: int) -> PreTrainedTokenizerFast:
    """Llama's kind: byte pairs, made for these texts."""
    words, end = ByteLevelBPETokenizer(), "<|endoftext|>"
    words.train_from_iterator(texts, vocab_size=size, special_tokens=[end], show_progress=False)
    special = dict.fromkeys(("bos_token", "eos_token", "pad_token"), end)
    return PreTrainedTokenizerFast(tokenizer_object=words._tokenizer, model_max_length=length, **special)


def _documentation(package: str) -> Iterator[str]:
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for file in sorted(Path(sysconfig.get_path("stdlib"), package).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            text = ast.get_docstring(node) if isinstance(node, documented) else None
            if text and len(text.split()) >= 5:
                yield " ".join(text.split())


def _split(columns: dict[str, list[Any]], features: Features) -> DatasetDict:
    order = np.random.default_rng(0).permutation(len(columns["text"])).tolist()
    whole, edge = Dataset.from_dict(columns, features), len(order) // 5
    return DatasetDict(train=whole.select(order[edge:]), test=whole.select(order[:edge]))
