"""Carry a fine-tune of one base to another base, with controls.

python benchmarks/carry_parents.py --subjects cifar10 turns wider books --seeds 1 2 3
python benchmarks/carry.py --subject cifar10 --pairs 1,2 2,3 3,1
python benchmarks/carry.py --subject turns --pairs 1,2 2,3 3,1
python benchmarks/carry.py --subject wider --pairs 1,2 2,3 3,1
python benchmarks/carry.py --subject books --pairs 1,2 2,3 3,1 --samples 200 --few 50

`cifar10`: the task is to classify images turned by a quarter; the old task is to classify upright ones. `turns`: the
task is to say by how many quarters an image is turned, with a new head. `wider`: as `cifar10`, to a base that is half
as wide again. `books`: the task is Tiny Shakespeare, the old task is War and Peace. Samples are unlabeled, and no model
has seen them; those of `keep` are of the old task. How much samples to keep weigh was chosen on other images than those
of the test split. `taught` trains the new base on the predictions
of the tuned model for the same samples, or on those of both models for all samples, weighted by their confidence. `new
base, trained as carry trains` has the predictions, the samples and the steps of `carry`, and starts from the new base,
without alignment. `tuned directly` trains it as the tuned model was trained, with labels, and is the upper end. All
figures are from the test split.
"""

import argparse
import copy
import json
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from carry_subjects import SUBJECTS, Subject
from carry_table import table
from common import RESULTS, record
from datasets import Dataset, concatenate_datasets
from transformers import PreTrainedModel

import transfuse
from transfuse.base.batch import validation_split
from transfuse.config.literals import LearningOptions
from transfuse.config.options import Options
from transfuse.data.prepare import prepare
from transfuse.merging.mean import mean
from transfuse.merging.training.learned_carry import CarryDistillation
from transfuse.network.model import network, with_tensors


def added(base: PreTrainedModel, tuned: PreTrainedModel, new_base: PreTrainedModel) -> PreTrainedModel:
    """Return the new base plus the difference of the weights, without any alignment."""
    networks = [network(model, torch.device("cpu")) for model in (new_base, base, tuned)]
    return with_tensors(new_base, mean([each.tensors for each in networks], [1.0, -1.0, 1.0]))


def trained_alone(
    models: list[PreTrainedModel], task: Dataset, old: Dataset, steps: int, processor: Any
) -> PreTrainedModel:
    """Return the new base, the first model, trained on the predictions that `carry` trains on."""
    student = copy.deepcopy(models[0])
    splits = [
        validation_split(list(prepare(transfuse.load_samples(rows), student, student, Options(), processor)))
        for rows in (task, old)
    ]
    options = LearningOptions(steps=steps)
    CarryDistillation(student, models, [1.0, -1.0, 1.0], splits[0], splits[1], options, streams=False).run("weights")
    return student


def measure(subject: Subject, pair: tuple[int, int], args: argparse.Namespace, pairs: dict[str, Any]) -> None:
    """Measure every method for one pair, and record each at once. Those that are recorded are not measured again."""
    first, second = pair
    base, tuned = (subject.opened(first, name, old=True) for name in ("base", "tuned"))
    new_base = subject.opened(second, "base")
    task, old = subject.samples(args.samples)
    few, few_old = (rows.select(range(args.few)) for rows in (task, old))
    result: dict[str, Any] = pairs.setdefault(f"{first},{second}", {})
    one_head = base.config.id2label == tuned.config.id2label

    def add(name: str, make: Callable[[], PreTrainedModel]) -> None:
        if name in result:
            return
        begin = time.process_time()
        model = make()
        seconds = time.process_time() - begin  # of one core
        result[name] = {**subject.scores(model, args.test), "seconds": seconds}
        print(pair, name, result[name], flush=True)
        record(f"carry-{subject.name}", {"pairs": pairs})

    def carried(steps: int | None = None, **options: Any) -> PreTrainedModel:
        length = {} if "data" not in options else {"effort": "quick"} if steps is None else {"steps": steps}
        return transfuse.carry(base, tuned, new_base, processor=subject.processor, **length, **options).model

    def taught(
        samples: Dataset, teachers: list[PreTrainedModel], start: PreTrainedModel = new_base, **options: Any
    ) -> PreTrainedModel:
        epochs = args.steps * subject.batch / len(samples)
        given = {"epochs": epochs, "batch_size": subject.batch, "distill": 1.0} | options
        return transfuse.finetune(start, samples, teachers=teachers, processor=subject.processor, **given).model

    if one_head:
        add("base", lambda: base)
        add("new base", lambda: new_base)
    add("tuned", lambda: tuned)
    add("tuned directly, with labels", lambda: subject.opened(second, "tuned"))
    if one_head and not subject.old:  # weights of equal shapes
        add("weights added, not aligned", lambda: added(base, tuned, new_base))
    add("carry", carried)
    add("carry, with samples", lambda: carried(data=task))
    add("carry, with samples and samples to keep", lambda: carried(data=task, keep=old))
    if one_head:
        by_confidence = {"teacher_weighting": "confidence"}
        both = concatenate_datasets([task, old])
        add("taught by the tuned model", lambda: taught(task, [tuned]))
        add("taught by tuned and new base", lambda: taught(both, [tuned, new_base], **by_confidence))
        models = [new_base, base, tuned]
        for steps in args.trained:
            alone = partial(trained_alone, models, task, old, steps, subject.processor)
            add(f"new base, trained as carry trains, {steps} steps", alone)
    for steps in args.trained:
        if subject.old:
            add(f"carry, trained, {steps} steps", partial(carried, steps, data=task))
        add(f"carry, trained, with samples to keep, {steps} steps", partial(carried, steps, data=task, keep=old))
    add(f"carry, with {args.few} samples", lambda: carried(data=few))
    add(f"carry, with {args.few} samples and {args.few} to keep", lambda: carried(data=few, keep=few_old))
    if one_head:
        add(f"taught by the tuned model, {args.few} samples", lambda: taught(few, [tuned]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subject", choices=SUBJECTS, default="cifar10")
    parser.add_argument("--pairs", nargs="+", default=["1,2", "2,3", "3,1"], help="seeds of base and new base")
    parser.add_argument("--samples", type=int, default=1000, help="unlabeled samples of the task, and as many to keep")
    parser.add_argument("--few", type=int, default=100, help="the same for few samples")
    parser.add_argument("--steps", type=int, default=200, help="of the controls that are taught")
    parser.add_argument("--trained", type=int, nargs="+", default=[200], help="steps of carry and of its control")
    parser.add_argument("--test", type=int, default=5000)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    subject = SUBJECTS[args.subject]
    stored = RESULTS / f"carry-{subject.name}.json"
    pairs = json.loads(stored.read_text())["pairs"] if stored.exists() else {}
    for pair in args.pairs:
        first, _, second = pair.partition(",")
        measure(subject, (int(first), int(second)), args, pairs)
    print(table(subject.name))


if __name__ == "__main__":
    main()
