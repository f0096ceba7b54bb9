"""Hold what the examples share: data that is already installed, training of parents, and the final table."""

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
from transfuse.base.libraries import quiet_libraries
from transfuse.checkpoint.reading.load import load_model
from transfuse.cli.demo.digits import NAMES, digits, processor
from transfuse.data.load import load_samples
from transfuse.data.processors import model_preparer
from transfuse.data.tasks import task, with_model_ids
from transfuse.evaluation.evaluate import ensemble, evaluate

__all__ = [
    "DIGITS",
    "PACKAGES",
    "digits",
    "docstrings",
    "pair_bytes",
    "pieces",
    "processor",
    "show",
    "topics",
    "trained",
]

DIGITS: dict[str, Any] = {
    "image_size": 8,
    "patch_size": 2,
    "num_channels": 1,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "id2label": dict(enumerate(NAMES)),
    "label2id": {name: index for index, name in enumerate(NAMES)},
}
disable_progress_bars()
PACKAGES = ("asyncio", "email", "logging", "multiprocessing", "unittest", "xml")
FORMATS = {"accuracy": ".2%", "loss": ".4f", "perplexity": ".2f"}
MIN_WORDS = 40  # of a passage


def trained(
    model: PreTrainedModel, data: DatasetDict, processor: Any, folder: Path, seed: int, **schedule: Any
) -> Path:
    """Train `model` on the training split, save it with its processor, and return the folder."""
    with quiet_libraries():
        finetuned = transfuse.finetune(model, data, processor=processor, seed=seed, **schedule)
        return finetuned.save(folder, "replace")


def show(models: Mapping[str, Path | Sequence[Path]], data: DatasetDict) -> None:
    """Print the metrics of each model on the test split. Several paths are evaluated as an ensemble."""
    results = {}
    for name, path_or_paths in models.items():
        paths = [path_or_paths] if isinstance(path_or_paths, Path) else path_or_paths
        loaded = [load_model(path) for path in paths]
        model_task = task(type(loaded[0]).__name__)
        samples = with_model_ids(loaded[0].config, model_task.labeled(load_samples(data)))
        batches = list(samples.batches(model_preparer(paths[0], loaded[0]), 100))
        results[name] = evaluate(loaded[0], batches) if len(loaded) == 1 else ensemble(loaded, batches)
    measures = [name for name in FORMATS if name in model_task.measures]
    table = Table("model", *measures)
    for name, metrics in results.items():
        table.add_row(name, *(format(getattr(metrics, measure), FORMATS[measure]) for measure in measures))
    Console().print(table)


def topics() -> DatasetDict:
    """Return Python's reference (`help("while")`) as passages of about fifty words; a fifth of them for testing."""
    paragraphs = (" ".join(part.split()) for text in pydoc_data.topics.topics.values() for part in text.split("\n\n"))
    passages = [""]
    for paragraph in dict.fromkeys(paragraphs):  # some paragraphs appear under several headings
        passages[-1] = f"{passages[-1]} {paragraph}".strip()
        if len(passages[-1].split()) >= MIN_WORDS:
            passages.append("")
    return _split({"text": passages[:-1]}, Features({"text": Value("string")}))


def docstrings() -> DatasetDict:
    """Return docstrings of six packages of the standard library, labeled by package; a fifth of them for testing."""
    labels = {text: index for index, package in enumerate(PACKAGES) for text in _documentation(package)}
    columns = {"text": list(labels), "label": list(labels.values())}
    return _split(columns, Features({"text": Value("string"), "label": ClassLabel(names=list(PACKAGES))}))


def pieces(texts: Sequence[str], size: int, length: int) -> BertTokenizerFast:
    """Train a WordPiece tokenizer, as BERT's, with `size` tokens and at most `length` tokens per text."""
    wordpiece = BertWordPieceTokenizer()
    wordpiece.train_from_iterator(texts, vocab_size=size, show_progress=False)
    return BertTokenizerFast(tokenizer_object=wordpiece._tokenizer, model_max_length=length)


def pair_bytes(texts: Sequence[str], size: int, length: int) -> PreTrainedTokenizerFast:
    """Train a tokenizer of byte pairs, as Llama's, with `size` tokens and at most `length` tokens per text."""
    end = "<|endoftext|>"
    pairs = ByteLevelBPETokenizer()
    pairs.train_from_iterator(texts, vocab_size=size, special_tokens=[end], show_progress=False)
    special = dict.fromkeys(("bos_token", "eos_token", "pad_token"), end)
    return PreTrainedTokenizerFast(tokenizer_object=pairs._tokenizer, model_max_length=length, **special)


def _documentation(package: str) -> Iterator[str]:
    """Yield the docstrings of a package, in one line each."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for file in sorted(Path(sysconfig.get_path("stdlib"), package).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            text = ast.get_docstring(node) if isinstance(node, documented) else None
            if text and len(text.split()) >= 5:
                yield " ".join(text.split())


def _split(columns: dict[str, list[Any]], features: Features) -> DatasetDict:
    """Shuffle texts with seed 0 and keep a fifth for testing."""
    order = np.random.default_rng(0).permutation(len(columns["text"])).tolist()
    dataset = Dataset.from_dict(columns, features)
    test_size = len(order) // 5
    return DatasetDict(train=dataset.select(order[test_size:]), test=dataset.select(order[:test_size]))
