"""Build two corpora from files that any machine holds, Python and C, and train parents on mixtures of them.

A folder of corpora holds the training files of each corpus, its test passages, the calibration passages of both, and
one tokenizer. The hash of a file's content decides its split, so no two splits share a text.
"""

import argparse
import hashlib
import json
import random
import sysconfig
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import machine
from datasets import Dataset
from parents_bert import masked_loss
from parents_lm import next_tokens
from pyarrow import table
from pyarrow.parquet import write_table
from texts import END
from tokenizers.implementations import ByteLevelBPETokenizer
from torch import Tensor
from training import Recipe, train
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from transfuse.data.text.texts import mask_tokens

MASK = "<|mask|>"
INSTALLED = {Path(sysconfig.get_path(name)) for name in ("stdlib", "purelib", "platlib")}
SOURCES: dict[str, tuple[set[Path], tuple[str, ...]]] = {
    "python": (INSTALLED, (".py",)),
    "c": ({*INSTALLED, Path("/usr/include"), Path("/usr/local")}, (".h", ".hh", ".hpp", ".cuh", ".c", ".cc", ".cpp")),
}
FILE_BYTES = range(2000, 200_000)  # smaller files hold no passage, and larger ones are mostly generated
CHARACTERS = 4  # per token, about; a passage fills the length of the models
SPLIT_EVERY = 16  # one in so many files is for tests, and one is for calibration
PARTS = 10  # the last of so many parts of a corpus is read by the parent of the other corpus only
RATES = {"llama": 6e-4, "gpt2": 6e-4, "bert": 2e-4}  # learning rates of the parents
SHAPES: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {  # what a kind adds to the sizes that all have
    "llama": lambda args: {"num_key_value_heads": args.kv_heads, "intermediate_size": args.width * 8 // 3},
    "gpt2": lambda args: dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0),
    "bert": lambda args: {
        "intermediate_size": 4 * args.width, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
    },
}  # fmt: skip
PARENT_ARGUMENTS = ("width", "blocks", "heads", "kv_heads", "length", "parent_steps", "parent_batch", "seed")


def prepare(folder: Path, megabytes: float, length: int, vocabulary: int, seed: int) -> dict[str, object]:
    """Write both corpora and the tokenizer, and return what they hold.

    Args:
        megabytes: the size of each corpus.
        length: the number of tokens that a model reads at once.
        vocabulary: the number of tokens of the tokenizer.
    """
    folder.mkdir(parents=True, exist_ok=True)
    facts: dict[str, object] = {"megabytes": megabytes, "length": length, "vocabulary": vocabulary, "seed": seed}
    training: list[str] = []
    calibration: list[str] = []
    for name in SOURCES:
        files = _files(name, megabytes, seed)
        texts = [files[digest] for digest in sorted(files)]
        held = -(-len(texts) // SPLIT_EVERY)
        splits = {"test": texts[:held], "calibration": texts[held : 2 * held], "train": texts[2 * held :]}
        passages = {split: [part for text in splits[split] for part in _passages(text, length)] for split in splits}
        _write(folder / f"{name}-train.parquet", splits["train"])
        _write(folder / f"{name}-test.parquet", passages["test"])
        training += splits["train"]
        calibration += passages["calibration"]
        content = hashlib.sha256(b"".join(sorted(files))).hexdigest()
        counts = {"test passages": len(passages["test"]), "calibration passages": len(passages["calibration"])}
        facts[name] = {"files": len(files), "characters": sum(map(len, files.values())), **counts, "sha256": content}
    _write(folder / "calibration.parquet", calibration)
    words = ByteLevelBPETokenizer()
    words.train_from_iterator(iter(training), vocab_size=vocabulary, special_tokens=[END, MASK], show_progress=False)
    PreTrainedTokenizerFast(
        tokenizer_object=words._tokenizer, model_max_length=length, bos_token=END, eos_token=END, pad_token=END,
        mask_token=MASK,
    ).save_pretrained(folder / "tokenizer")  # fmt: skip
    (folder / "corpora.json").write_text(json.dumps(facts, indent=1) + "\n")
    return facts


def _files(name: str, megabytes: float, seed: int) -> dict[bytes, str]:
    """Return texts by the hash of their content, in a random order of their paths, until they have the size."""
    roots, suffixes = SOURCES[name]
    paths = sorted({path for root in roots for path in root.rglob("*") if path.suffix in suffixes})
    random.Random(seed).shuffle(paths)
    found: dict[bytes, str] = {}
    size = 0
    for path in paths:
        if size >= megabytes * 1e6:
            break
        try:
            content = path.read_bytes() if path.is_file() else b""
            text = content.decode()
        except (OSError, UnicodeDecodeError):
            continue
        digest = hashlib.sha256(content).digest()
        if len(content) in FILE_BYTES and digest not in found:
            found[digest] = text
            size += len(content)
    return found


def _passages(text: str, length: int) -> Iterator[str]:
    """Yield consecutive lines that together fill the length of the models; a shorter rest is left out."""
    passage = ""
    for line in text.splitlines(keepends=True):
        passage += line
        if len(passage) >= CHARACTERS * length:
            yield passage
            passage = ""


def _write(path: Path, texts: list[str]) -> None:
    """Write texts as parquet, compressed so that the corpora can travel."""
    write_table(table({"text": texts}), path, compression="zstd", compression_level=12)


@cache
def tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """Return the tokenizer of both corpora."""
    return AutoTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)


@cache
def blocks(folder: Path, name: str, length: int) -> Tensor:
    """Return the training files of a corpus as token ids [block, token], one file after the other."""
    words = tokenizer(folder)
    texts = Dataset.from_parquet(str(folder / f"{name}-train.parquet"))["text"][:]
    encoded = words([text + END for text in texts], verbose=False, return_attention_mask=False)
    ids: Sequence[list[int]] = encoded["input_ids"]
    joined = np.concatenate([np.asarray(part, dtype=np.int64) for part in ids])
    return torch.from_numpy(joined[: len(joined) // length * length].reshape(-1, length))


def mixture(folder: Path, name: str, length: int) -> Tensor:
    """Return nine tenths of the blocks of a corpus, and the last tenth of the other corpus."""
    parts = []
    for corpus in SOURCES:
        rows = blocks(folder, corpus, length)
        edge = len(rows) * (PARTS - 1) // PARTS
        parts.append(rows[:edge] if corpus == name else rows[edge:])
    return torch.cat(parts)


def build(args: argparse.Namespace, vocabulary: int, end: int) -> PreTrainedModel:
    """Return an untrained model without dropout."""
    config = AutoConfig.for_model(
        args.kind, vocab_size=vocabulary, hidden_size=args.width, num_hidden_layers=args.blocks,
        num_attention_heads=args.heads, max_position_embeddings=args.length, pad_token_id=end, bos_token_id=end,
        eos_token_id=end, **SHAPES[args.kind](args),
    )  # fmt: skip
    return (AutoModelForMaskedLM if args.kind == "bert" else AutoModelForCausalLM).from_config(config)


def train_parent(target: Path, number: int, args: argparse.Namespace) -> dict[str, Any]:
    """Train the parent of one corpus, unless the same one exists, and return facts about its training.

    Args:
        number: of the corpus among `SOURCES`.
    """
    record, seed = target / "training.json", args.seed + number
    arguments: dict[str, Any] = {name: getattr(args, name) for name in PARENT_ARGUMENTS}
    arguments["corpora"] = json.loads((args.folder / "corpora.json").read_text())
    if record.exists() and (stored := json.loads(record.read_text()))["arguments"] == arguments:
        return stored["facts"] | {"reused": True}
    words = tokenizer(args.folder)
    torch.manual_seed(seed)
    model = build(args, len(words), words.eos_token_id).to(args.device)
    rows = mixture(args.folder, list(SOURCES)[number], args.length)
    special = torch.tensor(words.all_special_ids)
    losses: list[float] = []

    def loss(chosen: Tensor, generator: torch.Generator) -> Tensor:
        ids = rows[chosen % len(rows)]
        mask = torch.ones_like(ids, device=args.device)
        if args.kind != "bert":
            return next_tokens(model, ids.to(args.device), mask)
        masked, labels = mask_tokens(ids, special, words.mask_token_id, len(words), generator)
        return masked_loss(model, masked.to(args.device), mask, labels.to(args.device))

    samples = args.parent_steps * args.parent_batch
    recipe = Recipe(1, args.parent_batch, RATES[args.kind], weight_decay=0.1, warmup=0.1)
    start = time.perf_counter()
    train(model, samples, loss, recipe, seed, lambda _, mean: losses.append(mean))
    facts = {
        "seconds": time.perf_counter() - start, "parameters": model.num_parameters(), "tokens": samples * args.length,
        "tokens_in_mixture": rows.numel(), "mean_training_loss": losses[0],
    }  # fmt: skip
    model.to("cpu").save_pretrained(target)
    words.save_pretrained(target)
    record.write_text(json.dumps({"arguments": arguments, "facts": facts, "machine": machine()}, indent=1) + "\n")
    return facts
