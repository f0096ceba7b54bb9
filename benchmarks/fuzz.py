"""Run commands on randomly damaged inputs. Each must give a valid output or an error of one line."""

import argparse
import os
import resource
import sys
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_CACHE"] = tempfile.mkdtemp()
sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import torch
from common import record
from damage.judge import Verdict, judged
from damage.kinds import KINDS
from damage.subjects import build
from rich.console import Console
from rich.table import Table

MEMORY = 16 * 2**30  # bytes that this process may map; an input that needs more must be refused, too


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=2000, help="number of cases of all kinds together")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first case; each further case adds one")
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=list(KINDS))
    chosen = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    torch.set_num_threads(1)
    start, found = time.perf_counter(), defaultdict[str, list[tuple[int, Verdict]]](list)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        subjects = build(root / "subjects")
        for case in range(chosen.cases):
            kind, seed = chosen.kinds[case % len(chosen.kinds)], chosen.seed + case
            verdict = judged(KINDS[kind], seed, subjects, root)
            found[kind].append((seed, verdict))
            if verdict.kind == "failure":
                print(f"{kind}, seed {seed}: {verdict.command}\n{verdict.said}", file=sys.stderr, flush=True)
    rows = {kind: _row(verdicts) for kind, verdicts in found.items()}
    failures = [
        {"kind": kind, "seed": seed, "command": verdict.command, "said": verdict.said[-2000:]}
        for kind, verdicts in found.items() for seed, verdict in verdicts if verdict.kind == "failure"
    ]  # fmt: skip
    _show(rows)
    if chosen.kinds == list(KINDS):
        seconds = round(time.perf_counter() - start)
        seeds = [chosen.seed, chosen.seed + chosen.cases - 1]
        record("fuzz", {"cases": chosen.cases, "seeds": seeds, "seconds": seconds, "kinds": rows, "failures": failures})
    sys.exit(1 if failures else 0)


def _row(verdicts: list[tuple[int, Verdict]]) -> dict[str, int]:
    counts = Counter(verdict.kind for _, verdict in verdicts)
    return {"cases": len(verdicts)} | {kind: counts[kind] for kind in ("refused", "accepted", "failure")}


def _show(rows: dict[str, dict[str, int]]) -> None:
    table = Table("input", *(next(iter(rows.values()))))
    for kind, row in rows.items():
        table.add_row(kind, *map(str, row.values()))
    total = [sum(row[column] for row in rows.values()) for column in next(iter(rows.values()))]
    table.add_row("all", *map(str, total))
    Console().print(table)


if __name__ == "__main__":
    main()
