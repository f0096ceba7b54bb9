"""Make mixtures of experts smaller by fewer experts, beside rivals with as many.

python benchmarks/experts.py --model themes-moe-16-1 --name experts --limit 200

The model is one of `parents_moe.py`. Rivals, from the descriptions of the papers: the experts with the largest outputs
times gates stay (REAP, Lasby et al., 2510.13999); the others are merged into them, by the mean after an alignment of
hidden units, weighed by the same measure (as in REAM), or by the plain mean; the experts that are chosen most often
stay; random ones stay. All rivals keep the rows of the router that belong to the experts that stay, and go through the
layers in the order of the pass. Everything is made from the same samples of the training split, half of them code and
half prose, and measured on the test split. Numbers of experts that the file of results has are not measured again.
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from common import PARENTS, RESULTS, record
from parents_moe import THEMES, losses, samples, tokenizer
from torch import Tensor
from transformers import PreTrainedModel, Qwen3MoeForCausalLM

from transfuse.base.progress import silent
from transfuse.config.make import make
from transfuse.config.shrink_options import ShrinkOptions
from transfuse.network.model import declaration, network
from transfuse.network.reconfigured import empty_like
from transfuse.network.sizes import Sizes, resized
from transfuse.network.symmetry import symmetric
from transfuse.network.target_sizes import target_sizes
from transfuse.shrinking import shrink as shrinking
from transfuse.shrinking.blocks import all_blocks
from transfuse.shrinking.experts.fit import CHOICE_ROWS, LayerFit
from transfuse.shrinking.experts.layer import Expert, ExpertModules
from transfuse.shrinking.experts.model import fewer_experts
from transfuse.shrinking.experts.routing import OutputProducts, rows_of
from transfuse.shrinking.experts.rows import Rows
from transfuse.shrinking.learn import ProjectedDistillation
from transfuse.shrinking.projection import Projection
from transfuse.shrinking.samples import read_samples
from transfuse.shrinking.small_model import fitted
from transfuse.transport.assignment import assignment

SCORE_ROWS = 16384
Scores = Callable[[ExpertModules, Rows], Tensor]
Merge = Callable[[Expert, Sequence[Expert], Sequence[float]], Expert]


def saliency(modules: ExpertModules, rows: Rows) -> Tensor:
    """Return the mean norm of each expert's output, times its gate, over its tokens."""
    gates = modules.gates(modules.routing(), rows.x)
    norms = torch.stack([modules.output(expert, rows.x).norm(dim=1) for expert in modules.read()], 1)
    return (gates * norms).sum(0) / (gates > 0).sum(0).clamp_min(1)


def frequency(modules: ExpertModules, rows: Rows) -> Tensor:
    """Return how often each expert is chosen."""
    return (modules.gates(modules.routing(), rows.x) > 0).double().mean(0)


def at_random(modules: ExpertModules, rows: Rows) -> Tensor:
    """Return random numbers."""
    return torch.rand(len(modules.read()), generator=torch.Generator().manual_seed(len(rows.x)))


def plain_mean(center: Expert, others: Sequence[Expert], weights: Sequence[float]) -> Expert:
    """Return the mean of experts, with equal weights."""
    group = [center, *others]
    up, down = (torch.stack([getattr(expert, name) for expert in group]).mean(0) for name in ("up", "down"))
    return Expert(up, None, down, None)


def aligned_mean(center: Expert, others: Sequence[Expert], weights: Sequence[float]) -> Expert:
    """Return the weighted mean of experts, whose hidden units are matched to those of the first by their weights."""
    group = [center]
    for other in others:
        similarity = sum(
            getattr(other, name).flatten(1) @ getattr(center, name).flatten(1).T for name in ("up", "down")
        )
        group.append(other.units(assignment(similarity)))
    shares = torch.tensor(weights) / sum(weights)
    up, down = (
        torch.stack([share * getattr(expert, name) for share, expert in zip(shares, group, strict=True)]).sum(0)
        for name in ("up", "down")
    )
    return Expert(up, None, down, None)


class Rival:
    """Keep the experts with the largest scores, and merge the others into them, or leave them out."""

    def __init__(self, scores: Scores, merge: Merge | None = None) -> None:
        self.scores, self.merge = scores, merge

    @torch.no_grad()
    def __call__(self, large: ExpertModules, small: ExpertModules, count: int, train: Rows, held_out: Rows) -> LayerFit:
        experts, routing = large.read(), large.routing()
        scores = self.scores(large, train.first(SCORE_ROWS))
        kept = sorted(scores.topk(count).indices.tolist())
        made = [experts[index] for index in kept]
        if self.merge is not None:
            groups = _groups(large, train.first(CHOICE_ROWS), kept)
            made = [
                self.merge(expert, [experts[i] for i in group], [float(scores[i]) for i in (index, *group)])
                for expert, index, group in zip(made, kept, groups, strict=True)
            ]
        return LayerFit(made, rows_of(routing, kept), kept, 0.0)


def _groups(large: ExpertModules, rows: Rows, kept: Sequence[int]) -> list[list[int]]:
    """Return, for every expert that stays, the others whose outputs are most like its own on all rows."""
    square = OutputProducts.of(large, large.read(), rows).square.mean(0)
    sizes = square.diagonal().sqrt()
    similarity = square / sizes.outer(sizes)
    others = [index for index in range(len(square)) if index not in kept]
    nearest = {index: int(similarity[index, list(kept)].argmax()) for index in others}
    return [[index for index in others if nearest[index] == place] for place in range(len(kept))]


RIVALS = {
    "saliency": Rival(saliency),
    "frequency": Rival(frequency),
    "random": Rival(at_random),
    "aligned mean": Rival(saliency, aligned_mean),
    "mean": Rival(saliency, plain_mean),
}


class Subject:
    """A large model, and the samples that it is made smaller by."""

    def __init__(self, name: str, options: ShrinkOptions, limit: int) -> None:
        self.options, self.limit = options, limit
        path = PARENTS / name
        self.large = network(Qwen3MoeForCausalLM.from_pretrained(path), torch.device("cpu"))
        self.large.model.set_experts_implementation("eager")
        each = options.samples // len(THEMES)
        generator = torch.Generator().manual_seed(options.seed)
        chosen = [
            (ids := samples(theme, "train"))[torch.randperm(len(ids), generator=generator)[:each]] for theme in THEMES
        ]
        texts = tokenizer().batch_decode(torch.stack(chosen, 1).flatten(0, 1))
        _, self.batches = read_samples(self.large.model, path, texts, options, tokenizer(), silent)

    def sizes(self, count: int) -> Sizes:
        return target_sizes(self.large.model.config, Sizes(experts=count))

    def rival(self, count: int, rival: Rival) -> PreTrainedModel:
        """Return the small model of a rival."""
        config = resized(self.large.model.config, Sizes(experts=count))
        train, validation = shrinking.split(self.batches)
        small = empty_like(self.large.model, config)
        fewer_experts(self.large.model, small, (train, validation), silent, rival)
        return small

    def trained(self, small: PreTrainedModel) -> PreTrainedModel:
        """Train a model in place to do what the large one does, as `shrink` does."""
        large = self.large.model
        cut, own = symmetric(declaration(small)), symmetric(declaration(small))
        projection = Projection(large, all_blocks(large, large.config.num_hidden_layers), [], cut, own, {})
        batches = shrinking.split(self.batches)
        ProjectedDistillation(small, projection, batches, self.options.learning(), self.options.seed).run("weights")
        return small

    def measure(self, model: PreTrainedModel) -> dict[str, float]:
        """Return the loss on the test split, in nats per token, of each theme and of both."""
        model.set_experts_implementation("eager")
        found = losses(model, "test", self.limit)
        return {"loss": sum(found.values()) / len(found), **found}


def compare(subject: Subject, count: int, trains: bool, on_row: Callable[[list[dict[str, Any]]], None]) -> None:
    """Measure each way to a model with some of the experts.

    Args:
        trains: whether the best rival and the result of `shrink` are trained too.
        on_row: receives all rows after each one.
    """
    rows: list[dict[str, Any]] = []

    def add(name: str, make_model: Callable[[], PreTrainedModel]) -> PreTrainedModel:
        begin = time.perf_counter()
        model = make_model()
        seconds = time.perf_counter() - begin
        rows.append({"name": name, "parameters": model.num_parameters(), "seconds": seconds, **subject.measure(model)})
        print(count, rows[-1], flush=True)
        on_row(rows)
        return model

    split = shrinking.split(subject.batches)
    small = add("shrink", lambda: fitted(subject.large, subject.sizes(count), split, silent)[0])
    made = {name: add(name, lambda rival=rival: subject.rival(count, rival)) for name, rival in RIVALS.items()}
    best = min(rows[1:], key=lambda row: row["loss"])["name"]
    if trains:
        add(f"{best}, trained", lambda: subject.trained(made[best]))
        add("shrink, trained", lambda: subject.trained(small))


def main() -> None:
    """Measure all ways at every number of experts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--shares", type=float, nargs="+", default=[0.75, 0.5, 0.25])
    parser.add_argument("--trained", type=float, nargs="*", default=[0.5], help="shares at which models are trained")
    parser.add_argument("--steps", type=int, default=50, help="of training")
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--limit", type=int, default=400, help="test samples of each theme")
    args = parser.parse_args()
    torch.set_num_threads(1)
    options = make(ShrinkOptions, {"ratio": 0.5, "samples": args.samples, "steps": args.steps})
    subject = Subject(args.model, options, args.limit)
    large = subject.large.model
    whole = {"parameters": large.num_parameters(), "experts": large.config.num_experts, **subject.measure(large)}
    print(whole, flush=True)
    facts = {"samples": args.samples, "steps": args.steps, "large": whole}
    trained = json.loads((PARENTS / args.model / "training.json").read_text())
    stored = RESULTS / f"{args.name}.json"
    document = json.loads(stored.read_text()) if stored.exists() else {}
    results = document["results"] if facts.items() <= document.items() else {}
    for share in args.shares:
        count = round(share * large.config.num_experts)
        if str(count) in results:
            continue

        def on_row(rows: list[dict[str, Any]], count: int = count) -> None:
            results[str(count)] = rows
            record(args.name, {"parent": trained, **facts, "results": results})

        compare(subject, count, share in args.trained, on_row)
    record(args.name, {"parent": trained, **facts, "results": results})


if __name__ == "__main__":
    main()
