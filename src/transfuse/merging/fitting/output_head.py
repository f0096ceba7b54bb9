"""The last layer, fitted to the parents' mean predictions by convex optimization.

Scores can be close to the parents' in squared error and still give other predictions. This fit therefore minimizes the
cross-entropy to the parents' mean probabilities, given the inputs of the fused model's head. A penalty pulls the
weights toward the mean of the heads. If the head shares its matrix with the embeddings, the gain and bias of the norm
in front of it are fitted instead; the scores are linear in these too.

The strongest penalty is chosen whose validation loss is within one standard error of the best (Breiman et al., 1984).
The mean stays if the fit gains little, because a model that is as confident as its parents but less often right loses
by its wrong predictions.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel

from transfuse.activations.execution_order import forward_hooks
from transfuse.activations.prefix_cache import PrefixCache
from transfuse.base.batch import (
    IGNORED_LABEL,
    Batch,
    answer_count,
    batch_size,
    cast,
    is_labeled_per_sample,
    sample_indices,
)
from transfuse.base.distributed import process_group
from transfuse.merging.fitting.fit_data import Fit, Split
from transfuse.merging.fitting.head_problem import HeadProblem, HeadSamples, OutputHead
from transfuse.network.inputs import model_inputs
from transfuse.network.output_losses import SOFTMAX, output_loss
from transfuse.network.outputs import answer_rows, has_logits, predict
from transfuse.network.spec import Spec

RIDGE_PENALTIES = (1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
MAX_SCORES = 2**24  # largest number of scores to fit to
THINNING = 16  # answers of a language model from which one is used, so that it comes from many texts
MAX_MATRIX_ENTRIES = 2**24  # largest matrix to fit
MIN_GAIN = 0.1  # smallest share of the gap between the mean and the parents that the fit must close

Records = dict[nn.Module, tuple[Tensor, Tensor]]  # last input and output of each module


def output_head(spec: Spec, model: PreTrainedModel) -> OutputHead | None:
    """Return the head of a model, or None if it cannot be fitted.

    The scores must be the unmodified output of one linear map, and each must be that of one class of several.
    """
    heads = [op for op in spec.linears() if not op.writes.is_free]
    if len(heads) != 1 or output_loss(model) is not SOFTMAX or not has_logits(model):
        return None
    (head,) = heads
    norm = next((op for op in reversed(spec.norms()) if op.has_gain and op.space == head.reads[0]), None)
    modules = {op.name: model.get_submodule(op.name) for op in (head, norm) if op}
    records: Records = {}
    with forward_hooks(modules.values(), _record_into(records)):
        predicted = predict(model, cast(model_inputs(model), model.dtype))
    inputs, scores = records[modules[head.name]]
    if not torch.equal(scores.flatten(0, -2).float(), predicted):
        return None
    matrix = modules[head.name].get_parameter("weight")
    addresses = [values.data_ptr() for values in model.state_dict(keep_vars=True).values()]
    if addresses.count(matrix.data_ptr()) == 1:
        return OutputHead(head, None) if matrix.numel() <= MAX_MATRIX_ENTRIES else None
    return OutputHead(head, norm) if norm and torch.equal(records[modules[norm.name]][1], inputs) else None


@torch.no_grad()
def fit_output_head(head: OutputHead, models: Sequence[PrefixCache], splits: Sequence[Split]) -> Fit:
    """Fit the head of the fused model in place.

    Args:
        models: the fused model, then the parents.
        splits: the training and the validation split.
    """
    train, validation = (_collect_samples(head, models, split) for split in splits)
    if not len(train.sample) or not len(validation.sample):
        return Fit(None, 0.0)
    problem = HeadProblem(head, models[0].model)
    mean_losses = validation.losses(problem.scores(validation.inputs))
    if not mean_losses.isfinite().all():  # nothing that is compared with them tells anything
        return Fit(None, 0.0)
    candidates: list[tuple[float | None, dict[str, Tensor], Tensor]] = [(None, problem.state(), mean_losses)]
    for ridge in RIDGE_PENALTIES:
        problem.minimize(train, ridge)
        losses = validation.losses(problem.scores(validation.inputs))
        candidates.append((ridge, problem.state(), losses))
        if not losses.mean() <= min(candidate[2].mean() for candidate in candidates):
            break
    least = min(candidates, key=lambda candidate: float(candidate[2].mean()))[2]
    penalty, state, losses = next(candidate for candidate in candidates if _within_one_error(candidate[2], least))
    parents_loss = validation.losses(validation.targets.clamp_min(1e-30).log()).mean()
    gain = float((mean_losses.mean() - losses.mean()) / (mean_losses.mean() - parents_loss).clamp_min(1e-30))
    if gain < MIN_GAIN:
        return Fit(None, 0.0)
    problem.write(state)
    return Fit(penalty, gain)


def _within_one_error(losses: Float[Tensor, " sample"], least: Float[Tensor, " sample"]) -> bool:
    """Return whether the mean difference is at most its standard error."""
    excess = losses - least
    return float(excess.mean()) <= float(excess.std(correction=0)) / len(excess) ** 0.5


def _collect_samples(head: OutputHead, models: Sequence[PrefixCache], split: Split) -> HeadSamples:
    """Return the samples of a split from all processes, evenly thinned to about `MAX_SCORES` scores."""
    group = process_group()
    module = models[0].model.get_submodule(head.linear.name)
    needed = MAX_SCORES // (head.linear.writes.size * group.count)
    split = split.first(answer_count, THINNING * needed)
    answers = sum(map(answer_count, split.batches))
    step = max(1, -(-answers // needed))
    records: Records = {}
    parts: list[HeadSamples] = []
    samples = 0
    for index, (batch, shares) in enumerate(zip(split.batches, split.shares, strict=True)):
        thinned, rows = _thinned(batch, step, index % step)
        with forward_hooks([module], _record_into(records)), models[0].replay(batch):
            count, classes = predict(models[0].model, thinned).shape
        inputs = answer_rows(records[module][0], thinned)[rows].float()
        sample = sample_indices(thinned, count)[rows].to(inputs.device)
        targets = inputs.new_zeros(len(inputs), classes)
        for parent, share in zip(models[1:], shares.to(inputs), strict=True):
            with parent.replay(batch):
                targets += share[sample].unsqueeze(1) * predict(parent.model, thinned)[rows].softmax(-1)
        parts.append(HeadSamples(inputs, targets, sample + samples))
        samples += batch_size(batch)
    return _gather(parts, samples)


def _thinned(batch: Batch, step: int, start: int) -> tuple[Batch, slice]:
    """Return a batch in which only every `step`-th labeled token is labeled, and which of its answers are used.

    Scores of other tokens are not even computed. Without labeled tokens, the batch is unchanged, and every `step`-th
    answer is used.
    """
    if is_labeled_per_sample(batch):
        return batch, slice(start, None, step)
    labels = batch["labels"]
    kept = (labels != IGNORED_LABEL).flatten().nonzero().flatten()[start::step]
    thinned = torch.full_like(labels, IGNORED_LABEL).flatten().index_copy(0, kept, labels.flatten()[kept])
    return {**batch, "labels": thinned.reshape(labels.shape)}, slice(None)


def _gather(parts: list[HeadSamples], samples: int) -> HeadSamples:
    """Return the parts of all processes, concatenated. `samples` is the number of this process's samples."""
    gathered: list[HeadSamples] = []
    offset = 0
    for process_parts, process_samples in process_group().all_gather((parts, samples)):
        gathered += [replace(part, sample=part.sample + offset) for part in process_parts]
        offset += process_samples
    return HeadSamples(
        *(torch.cat([getattr(part, name) for part in gathered]) for name in ("inputs", "targets", "sample"))
    )


def _record_into(records: Records) -> Callable[[nn.Module, Any, Any], None]:
    """Return a forward hook that records the first input and the output of a module."""

    def hook(module: nn.Module, inputs: Any, output: Any) -> None:
        records[module] = inputs[0], output

    return hook
