"""Test the paper's main claim, with controls: a briefly fine-tuned fused model beats its parents.

python benchmarks/finetune.py --subject cifar10 --groups 1,2 3,4 5,1 --epochs 2

The first seed of a group is the anchor. Every arm has the same steps, batches and schedule. The learning rates of
parents and of fusions were chosen on the validation split (`pilot-*.json`). Each group has one JSON file, which is
written after every arm. An interrupted run continues where it stopped. `finetune_table.py` makes the table.
"""

import argparse
import json
import time
from dataclasses import asdict
from typing import Any

import torch
from common import RESULTS, machine
from subjects import SUBJECTS, Judge, Subject
from training import fastest_precision
from transformers import PreTrainedModel

from transfuse import finetune, fuse
from transfuse.fusion.compare import METHODS

ARMS = ("plain average", "flow, soft", "flow, hard", "uniform plan (control)", "exact", "exact, least squares")
FUSIONS = {name.removesuffix(" (control)"): METHODS[name] for name in ARMS}
TRAINED = "parent, trained on"
TAUGHT = ", taught"  # by the averaged predictions of all parents
BY_OTHERS = ", taught by the others"  # by the averaged predictions of the parents after the anchor


class Group:
    """A group of parents and all arms made from them. The first parent is the anchor."""

    def __init__(self, seeds: list[str], args: argparse.Namespace) -> None:
        self.args = args
        self.subject: Subject = SUBJECTS[args.subject]
        others = SUBJECTS[args.others or args.subject]
        self.parents = [self.subject.model(seeds[0]), *(others.model(seed) for seed in seeds[1:])]
        self.judges = {name: Judge(self.subject, seeds[0], name) for name in args.splits}
        self.processor = self.judges[args.splits[0]].processor
        self.training = self.subject.samples("train")
        self.file = RESULTS / "finetune" / f"{args.name or args.subject}-{'-'.join(seeds)}.json"
        self.settings = {
            name: getattr(args, name) for name in ("epochs", "learning_rate", "fused_learning_rate", "seed")
        }
        self.found = self._start(seeds)

    def _start(self, seeds: list[str]) -> dict[str, Any]:
        if self.file.exists():
            found = json.loads(self.file.read_text())
            if found["settings"] != self.settings:
                raise SystemExit(f"{self.file} was made with {found['settings']}; remove it to start again")
            return found
        return {
            "seeds": seeds,
            "settings": self.settings,
            "machine": machine(),
            "parents": [self.measure(parent) for parent in self.parents],
            "ensemble": {name: asdict(judge.ensemble(self.parents)) for name, judge in self.judges.items()},
            "arms": {},
        }

    def measure(self, model: PreTrainedModel) -> dict[str, Any]:
        return {name: asdict(judge.measure(model)) for name, judge in self.judges.items()}

    def best(self) -> int:
        """Return the index of the parent with the lowest validation loss among those with the anchor's width."""
        alike = [
            index for index, parent in enumerate(self.parents)
            if parent.config.hidden_size == self.parents[0].config.hidden_size
        ]  # fmt: skip
        return min(alike, key=lambda index: self.found["parents"][index]["validation"]["loss"])

    def elsewhere(self) -> dict[str, Any] | None:
        """Return the arm of the same parent, trained further with the same settings, from another group."""
        parent = self.found["parents"][self.best()]
        for file in self.file.parent.glob(f"{self.args.name or self.args.subject}-[0-9]*.json"):
            other = json.loads(file.read_text())
            if TRAINED in other["arms"] and other["settings"] == self.settings:
                arm = other["arms"][TRAINED]
                if arm["before"] == parent:
                    return arm
        return None

    def fused(self, name: str) -> PreTrainedModel:
        options = FUSIONS[name] | ({"match_on": self.args.match_on} if name.startswith("exact") else {})
        needs_data = (options.get("align") != "none" and options.get("match_on") != "weights") or options.get(
            "merge"
        ) == "least-squares"
        return fuse(self.parents, self.training if needs_data else None, processor=self.processor, **options).model

    def run(self, arm: str) -> None:
        """Make the model of an arm, and measure it before and after fine-tuning."""
        if arm in self.found["arms"]:
            return
        if arm == TRAINED and (done := self.elsewhere()):
            self.keep(arm, done)
            return
        start = time.time()
        base = arm.removesuffix(TAUGHT).removesuffix(BY_OTHERS)
        teachers = self.parents if arm.endswith(TAUGHT) else self.parents[1:] if arm.endswith(BY_OTHERS) else ()
        model = self.parents[self.best()] if base == TRAINED else self.fused(base)
        fusing, before = time.time() - start, self.measure(model)
        if not self.args.epochs:
            self.keep(arm, {"before": before, "after": before, "steps": 0, "fusing_seconds": fusing})
            return
        rate = self.args.learning_rate if base == TRAINED else self.args.fused_learning_rate
        start = time.time()
        tuned = finetune(
            model, self.training, teachers, processor=self.processor,
            epochs=self.args.epochs, learning_rate=rate, seed=self.args.seed,
            precision=fastest_precision(model.device), **({"distill": self.args.distill} if teachers else {}),
            **self.subject.schedule,
        )  # fmt: skip
        self.keep(arm, {
            "before": before, "after": self.measure(tuned.model), "steps": tuned.record["steps"],
            "fusing_seconds": fusing, "training_seconds": time.time() - start,
        })  # fmt: skip

    def keep(self, arm: str, found: dict[str, Any]) -> None:
        """Record an arm at once."""
        self.found["arms"][arm] = found
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self.file.write_text(json.dumps(self.found, indent=1) + "\n")
        print(self.file.stem, arm, *(f"{key} {found[when][key]['accuracy']:.4f}"
              for when in ("before", "after") for key in self.judges), flush=True)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subject", default="cifar10", choices=SUBJECTS)
    parser.add_argument("--others", choices=SUBJECTS, help="subject of the parents after the anchor; default: the same")
    parser.add_argument("--groups", nargs="+", default=["1,2", "3,4", "5,1"])
    parser.add_argument("--arms", nargs="+", default=[TRAINED, TRAINED + TAUGHT, *FUSIONS, "exact" + TAUGHT])
    parser.add_argument("--epochs", type=float, default=2.0, help="0: no fine-tuning")
    parser.add_argument("--learning-rate", type=float, default=3e-4, help="for a parent that is trained further")
    parser.add_argument("--fused-learning-rate", type=float, default=1e-3)
    parser.add_argument("--distill", type=float, default=0.5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--match-on", default="auto", help="what the exact alignment matches on")
    parser.add_argument("--splits", nargs="+", default=["validation", "test"], help="splits to measure on")
    parser.add_argument("--name", help="name of the result files; default: the subject")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    for seeds in args.groups:
        group = Group(seeds.split(","), args)
        for arm in args.arms:
            group.run(arm)


if __name__ == "__main__":
    main()
