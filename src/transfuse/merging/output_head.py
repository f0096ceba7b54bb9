"""The last layer, fitted to what the parents say on average: a convex problem, and the measure that counts.

Scores that are near the parents' in squared error can still say something else, so here it is their mean probabilities
that are regressed on what the fused model's head reads, pulled towards the mean of the heads. Of a head that shares its
matrix with the embeddings, the gain and the shift of the norm in front of it are fitted, in which the scores are linear
too. Of all pulls, the strongest is taken whose loss on held-out samples is within a standard error of the best (Breiman
et al., 1984). The mean stays where that gains little: as sure as its parents, but less often right, a model loses by
its wrong answers.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, linear
from transformers import PreTrainedModel

from transfuse.activations.execution_order import forward_hooks
from transfuse.activations.prefix_cache import PrefixCache
from transfuse.base.batch import batch_size, cast, grouped_mean, sample_indices
from transfuse.base.distributed import process_group
from transfuse.merging.split import Fit, Split
from transfuse.network.model import example_inputs, has_scores, predict
from transfuse.network.spec import Linear, Norm, Spec

RIDGE_PENALTIES = (1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
ITERATIONS = 20  # of L-BFGS for each, from where the one before ended
MAX_SCORES = 2**24  # scores that are looked at, at most
MAX_MATRIX_ENTRIES = 2**24  # entries of a matrix that is fitted, at most
MIN_GAIN = 0.1  # of what the mean lacks of the parents' answers, which it has to be better by to be replaced


Seen = dict[nn.Module, tuple[Tensor, Tensor]]  # by module, what it last read and put out


@dataclass(frozen=True, eq=False)
class OutputHead:
    """The linear map whose outputs are what a model says; the norm in front of it, where its matrix is shared."""

    map: Linear
    norm: Norm | None

    @property
    def name(self) -> str:
        """Of the module that is fitted."""
        return self.norm.name if self.norm else self.map.name


def output_head(spec: Spec, model: PreTrainedModel) -> OutputHead | None:
    """Of a model whose scores are what one linear map puts out, nothing behind it; else None."""
    found = [each for each in spec.linears() if not any(space.free for space in each.writes.spaces())]
    one_of_several = getattr(model.config, "problem_type", None) in (None, "single_label_classification")
    if len(found) != 1 or not one_of_several or not has_scores(model):
        return None
    (last,) = found
    norm = next((each for each in reversed(spec.norms()) if each.space == last.reads[0]), None)
    watched = {each.name: model.get_submodule(each.name) for each in (last, norm) if each}
    seen: Seen = {}
    with forward_hooks(watched.values(), _keep(seen)):
        said = predict(model, cast(example_inputs(model.config), model.dtype))
    read, scores = seen[watched[last.name]]
    if not torch.equal(scores.flatten(0, -2).float(), said):
        return None
    matrix = watched[last.name].get_parameter("weight")
    places = [values.data_ptr() for values in model.state_dict(keep_vars=True).values()]
    if places.count(matrix.data_ptr()) == 1:
        return OutputHead(last, None) if matrix.numel() <= MAX_MATRIX_ENTRIES else None
    return OutputHead(last, norm) if norm and torch.equal(seen[watched[norm.name]][1], read) else None


@dataclass(frozen=True, eq=False)
class HeadSamples:
    """What the head reads of every answer that is asked for, what should be said, and of which sample it is."""

    reads: Float[Tensor, "row reads"]
    wanted: Float[Tensor, "row cls"]
    sample: Int[Tensor, " row"]

    def losses(self, scores: Float[Tensor, "row cls"]) -> Float[Tensor, " sample"]:
        """Cross-entropy in nats, by sample."""
        each = cross_entropy(scores, self.wanted, reduction="none").double()
        return grouped_mean(self.sample, each, int(self.sample.max()) + 1)[self.sample.unique()]


@torch.no_grad()
def fit_output_head(found: OutputHead, models: Sequence[PrefixCache], halves: Sequence[Split]) -> Fit:
    """Fit it in place. `models`: the fused one, then the parents; `halves`: to fit to, and to choose by."""
    fit, held = (_rows(found, models, half) for half in halves)
    if not len(fit.sample) or not len(held.sample):
        return Fit(None, 0.0)
    fused = models[0].model
    problem = HeadProblem(found, fused)
    stays = held.losses(problem.scores(held.reads))
    tried: list[tuple[float | None, dict[str, Tensor], Tensor]] = [(None, problem.state(), stays)]
    for pull in RIDGE_PENALTIES:
        problem.descend(fit, pull)
        tried.append((pull, problem.state(), held.losses(problem.scores(held.reads))))
        if tried[-1][2].mean() > min(losses.mean() for *_, losses in tried):
            break
    least = min(tried, key=lambda each: float(each[2].mean()))[2]
    chosen, state, losses = next(each for each in tried if _within_one_error(each[2], least))
    own = held.losses(held.wanted.clamp_min(1e-30).log()).mean()
    gain = float((stays.mean() - losses.mean()) / (stays.mean() - own).clamp_min(1e-30))
    if gain < MIN_GAIN:
        return Fit(None, 0.0)
    problem.write(state)
    return Fit(chosen, gain)


def _within_one_error(losses: Float[Tensor, " sample"], best: Float[Tensor, " sample"]) -> bool:
    more = losses - best
    return float(more.mean()) <= float(more.std(correction=0)) / len(more) ** 0.5


class HeadProblem:
    """Scores as a function of what is added to the weights."""

    def __init__(self, found: OutputHead, model: nn.Module) -> None:
        self.found, self.head = found, dict(model.get_submodule(found.map.name).named_parameters())
        self.norm = dict(model.get_submodule(found.norm.name).named_parameters()) if found.norm else {}
        matrix = self.head["weight"].detach()
        self.matrix = (matrix.T if found.map.transposed else matrix).float()
        self.bias = self.head["bias"].detach().float() if "bias" in self.head else None
        reads = self.matrix.shape[1]
        fresh = self.matrix.new_zeros
        self.added = {"matrix": fresh(self.matrix.shape)} if found.norm is None else {"gain": fresh(reads)}
        if found.norm and found.norm.bias:
            self.added["shift"] = fresh(reads)
        if self.bias is not None:
            self.added["bias"] = fresh(len(self.matrix))

    def scores(self, reads: Float[Tensor, "row reads"]) -> Float[Tensor, "row cls"]:
        """Of these inputs."""
        zero = reads.new_zeros(())
        bias = None if self.bias is None else self.bias + self.added["bias"]
        changed = reads * (1 + self.added.get("gain", zero)) + self.added.get("shift", zero)
        return linear(changed, self.matrix + self.added.get("matrix", zero), bias)

    def descend(self, rows: HeadSamples, pull: float) -> None:
        """Towards the least cross-entropy, with every entry pulled back as much as it changes the scores."""
        square, weight = rows.reads.square().mean(), self.matrix.square().mean()
        sizes = {"matrix": square, "gain": square * weight, "shift": weight, "bias": torch.ones(())}
        values = [each.requires_grad_() for each in self.added.values()]
        descent = torch.optim.LBFGS(values, max_iter=ITERATIONS, line_search_fn="strong_wolfe")

        @torch.enable_grad()
        def loss() -> Tensor:
            descent.zero_grad()
            pulled = sum(float(sizes[name]) * each.square().sum() for name, each in self.added.items())
            found = cross_entropy(self.scores(rows.reads), rows.wanted) + pull * pulled
            found.backward()
            return found

        descent.step(loss)
        for each in values:
            each.requires_grad_(False)

    def state(self) -> dict[str, Tensor]:
        """What is added so far."""
        return {name: each.clone() for name, each in self.added.items()}

    def write(self, added: dict[str, Tensor]) -> None:
        """Add it to the model's own weights."""
        if "matrix" in added:
            self.head["weight"].add_(added["matrix"].T if self.found.map.transposed else added["matrix"])
        if "bias" in added:
            self.head["bias"].add_(added["bias"])
        if self.found.norm:
            offset, factor = self.found.norm.offset, 1 + added["gain"]
            self.norm["weight"].copy_((self.norm["weight"] + offset) * factor - offset)
        if "shift" in added:
            self.norm["bias"].copy_(self.norm["bias"] * factor + added["shift"])


def _rows(found: OutputHead, models: Sequence[PrefixCache], half: Split) -> HeadSamples:
    """Drawn evenly, where there are too many; the scores of one model at a time."""
    group, head = process_group(), models[0].model.get_submodule(found.map.name)
    seen: Seen = {}
    kept: list[HeadSamples] = []
    first = 0
    for batch, shares in zip(half.batches, half.shares, strict=True):
        with forward_hooks([head], _keep(seen)), models[0].of(batch):
            answers, classes = predict(models[0].model, batch).shape
        step = max(1, -(-answers * classes * len(half.batches) * group.count // MAX_SCORES))
        drawn = slice(len(kept) % step, None, step)
        reads = seen[head][0].flatten(0, -2)[drawn].float()
        sample = sample_indices(batch, answers)[drawn].to(reads.device)
        wanted = reads.new_zeros(len(reads), classes)
        for parent, share in zip(models[1:], shares.to(reads), strict=True):
            with parent.of(batch):
                wanted += share[sample].unsqueeze(1) * predict(parent.model, batch)[drawn].softmax(-1)
        kept.append(HeadSamples(reads, wanted, sample + first))
        first += batch_size(batch)
    before, every = 0, list[HeadSamples]()
    for theirs, count in group.all_gather((kept, first)):
        every += [replace(rows, sample=rows.sample + before) for rows in theirs]
        before += count
    return HeadSamples(*(torch.cat([getattr(each, name) for each in every]) for name in ("reads", "wanted", "sample")))


def _keep(seen: Seen) -> Callable[[nn.Module, Any, Any], None]:
    def keep(module: nn.Module, inputs: Any, output: Any) -> None:
        seen[module] = inputs[0], output

    return keep
