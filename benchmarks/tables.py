"""Insert the tables of measurements from `results/` into the pages of the documentation.

python benchmarks/tables.py docs/*.md

The text between the marks `<!-- NAME table -->` and `<!-- /NAME table -->` of a page is replaced by the table. Without
pages, all tables are printed. `tests/test_docs.py` checks that the pages are up to date.
"""

import argparse
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import base_size_table
import carry_table
import confidence
import crowd
import default_table
import experts_table
import glmc_table
import grow_table
import large_experts
import one_base_table
import other_sizes
import shrink_table
import side_by_side
import teach_table
from barrier_table import columns, decisions, tables
from rows import (
    ablation,
    device,
    finetuned,
    fitting,
    flow,
    growth,
    large,
    large_data,
    likeness,
    many,
    measurements,
    memory,
    methods,
    perplexities,
    plan_data,
    solvers,
    speed,
    trust,
)

FINETUNED = {
    "cifar10": (2, 3, 5), "sst2": (2, 3, 5), "fashion-mnist": (2,), "fashion-mnist-skewed": (2,),
    "sst2-narrow-anchor": (2,), "sst2-wide-anchor": (2,),
}  # fmt: skip
TABLES: dict[str, Callable[[], str]] = {
    "barrier": lambda: tables(columns()),
    "decisions": lambda: decisions(columns()),
    "taught": partial(teach_table.table, "teach", teach_table.TAUGHT),
    "learned-weights": partial(teach_table.table, "weights", teach_table.LEARNED),
    **{
        name: partial(default_table.table, name)
        for name in (
            "default-antibody",
            "default-views",
            "default-classes",
            "default-cifar10-small",
            "default-cifar10-paper",
            "generated-gpt2",
        )
    },
    "starts-classes": partial(default_table.starts, "classes"),
    "glmc": glmc_table.table,
    "base-size": base_size_table.table,
    "base-size-480": partial(base_size_table.table, "base-size-480"),
    "carry": carry_table.table,
    **{f"other-sizes-{data}": partial(other_sizes.table, data) for data in ("digits", "cifar10", "books")},
    "side-by-side": side_by_side.table,
    "carry-turns": partial(carry_table.table, "turns"),
    "carry-wider": partial(carry_table.table, "wider"),
    "carry-books": partial(carry_table.table, "books"),
    "one-base": one_base_table.table,
    "shrink-vit": partial(
        shrink_table.increases, {"shrink-vit": "model a", "shrink-vit-b": "model b", "shrink-vit-c": "model c"}
    ),
    "shrink-gpt2": partial(shrink_table.table, "shrink-gpt2", perplexity=True),
    "shrink-gpt2-all": partial(
        shrink_table.increases, {"shrink-gpt2": "model 1", "shrink-gpt2-2": "model 2", "shrink-gpt2-3": "model 3"}
    ),
    "shrink-sentences": partial(shrink_table.embeddings, "shrink-sentences"),
    "shrink-antibody": partial(shrink_table.table, "shrink-antibody"),
    "shrink-antibody-400": partial(
        shrink_table.increases,
        {"shrink-antibody-400": "heavy chains", "shrink-antibody-light-400": "light chains"},
    ),
    "experts": partial(experts_table.table, "experts", "experts-2"),
    **{f"grow-{name}": partial(grow_table.table, name) for name in ("digits", "antibody", "antibody-long", "books")},
    "methods-cifar10": partial(methods, "cifar10"),
    "methods-sst2": partial(methods, "sst2"),
    "perplexities": perplexities,
    "many": many,
    "crowd": crowd.table,
    "crowd-fashion-mnist": partial(crowd.table, "crowd-fashion-mnist"),
    "trust": partial(trust, "trust-fashion-mnist"),
    "trust-classes": partial(trust, "trust-fashion-mnist-classes"),
    "trust-books": partial(trust, "trust-books", perplexity=True),
    "confidence": confidence.table,
    "likeness": likeness,
    "fitting": fitting,
    "ablation-groups": partial(ablation, "groups"),
    "ablation-evidence": partial(ablation, "evidence"),
    "flow": flow,
    "speed": partial(speed, "fuse"),
    "speed-vit-b-16": partial(speed, "fuse-vit-b-16"),
    "speed-vit-b-16-1000": partial(speed, "fuse-vit-b-16-1000"),
    "speed-384": partial(speed, "fuse-384"),
    "speed-2000": partial(speed, "fuse-2000"),
    "device": device,
    "growth": growth,
    "plan-data": plan_data,
    "large": large,
    "large-data": large_data,
    "large-experts": large_experts.table,
    "memory": memory,
    "solvers": partial(solvers, "solvers"),
    "solvers-large": partial(solvers, "solvers-large"),
    "measurements": measurements,
} | {f"finetuned-{name}-{size}": partial(finetuned, name, size) for name, sizes in FINETUNED.items() for size in sizes}
MARKS = re.compile(r"(?P<start><!-- (?P<name>[\w-]+) table -->\n).*?(?P<end><!-- /(?P=name) table -->)", re.DOTALL)


def filled(page: str) -> str:
    """Return the page with up-to-date tables."""
    return MARKS.sub(lambda match: f"{match['start']}{TABLES[match['name']]()}\n{match['end']}", page)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pages", type=Path, nargs="*")
    pages = parser.parse_args().pages
    for page in pages:
        page.write_text(filled(page.read_text()))
    for name, table in {} if pages else TABLES.items():
        print(f"\n{name}\n\n{table()}")


if __name__ == "__main__":
    main()
