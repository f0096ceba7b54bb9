"""Measure the memory for long texts: evaluation and fusion with 20 texts and a vocabulary of 20,000 tokens.

python benchmarks/memory.py

The longest text has 3,700 tokens.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from common import record
from rich.console import Console
from rich.table import Table
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

VOCABULARY, TEXTS, LONGEST, SHORTER = 20_000, 20, 3_700, 50  # each text has SHORTER tokens fewer than the one before
SPECIAL = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
COMMANDS = {
    "eval": ["eval", "A", "B", "--data", "TEXTS"],
    "eval --max-memory 1.2GB": ["eval", "A", "B", "--data", "TEXTS", "--max-memory", "1.2GB"],
    "eval --max-memory 900MB": ["eval", "A", "B", "--data", "TEXTS", "--max-memory", "900MB"],
    "fuse --data": ["fuse", "A", "B", "--data", "TEXTS", "-o", "OUT"],
    "fuse --data --max-memory 3GB": ["fuse", "A", "B", "--data", "TEXTS", "-o", "OUT", "--max-memory", "3GB"],
}


def subjects(folder: Path) -> None:
    """Write two random Llamas of two blocks, with a tokenizer of whole words, and the texts."""
    words = [*SPECIAL.values(), *(f"w{number}" for number in range(VOCABULARY - len(SPECIAL)))]
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=4096, **SPECIAL)
    for seed, name in enumerate("AB"):
        torch.manual_seed(seed)
        config = LlamaConfig(
            hidden_size=256, num_hidden_layers=2, num_attention_heads=8, num_key_value_heads=4, intermediate_size=512,
            vocab_size=VOCABULARY, max_position_embeddings=4096, pad_token_id=0, bos_token_id=1, eos_token_id=2,
        )  # fmt: skip
        LlamaForCausalLM(config).save_pretrained(folder / name)
        fast.save_pretrained(folder / name)
    draw = random.Random(0)
    lengths = [LONGEST - SHORTER * index for index in range(TEXTS)]
    rows = [{"text": " ".join(draw.choices(words[4:3000], k=length))} for length in lengths]
    (folder / "TEXTS.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")


def measured(folder: Path, arguments: list[str]) -> dict[str, object]:
    """Measure the seconds and peak memory of one command in its own process."""
    names = {"A": "A", "B": "B", "TEXTS": "TEXTS.jsonl", "OUT": f"OUT-{time.monotonic_ns()}"}
    given = [str(folder / names[each]) if each in names else each for each in arguments]
    start = time.perf_counter()
    child = subprocess.Popen([sys.executable, "-m", "transfuse", *given, "--quiet"], stderr=subprocess.PIPE)
    peak = 0
    while child.poll() is None:
        status = Path(f"/proc/{child.pid}/status").read_text()
        peak = max([peak, *(1024 * int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))])
        time.sleep(0.05)
    seconds = round(time.perf_counter() - start, 1)
    message = child.stderr.read().decode().strip() if child.stderr else ""
    return {"status": child.returncode, "seconds": seconds, "peak": peak, "said": message}


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    found = {}
    with tempfile.TemporaryDirectory() as name:
        subjects(Path(name))
        for command, arguments in COMMANDS.items():
            found[command] = measured(Path(name), arguments)
            print(command, found[command], flush=True)
    table = Table("command", "seconds", "peak memory")
    for command, row in found.items():
        table.add_row(command, f"{row['seconds']}", f"{float(str(row['peak'])) / 1e9:.2f} GB")
    Console().print(table)
    record("memory", {"texts": TEXTS, "tokens": LONGEST, "vocabulary": VOCABULARY, "ways": found})


if __name__ == "__main__":
    main()
